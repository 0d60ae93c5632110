import type { Explanation, ExplainStep, PacketSpec } from '../debug/explain/packet-spec.js';
import { PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP } from '../packet/ipv4.js';
import type { Paint } from './paint.js';

const PROTOCOL_NAMES: Readonly<Record<number, string>> = {
  [PROTOCOL_ICMP]: 'icmp',
  [PROTOCOL_TCP]: 'tcp',
  [PROTOCOL_UDP]: 'udp',
};

/** An explanation for people: the packet, a line a decision, the verdict. */
export function explainReport(spec: PacketSpec, explanation: Explanation, paint: Paint): string[] {
  const { source, destination, steps } = explanation;
  const port = spec.port === undefined ? '' : ` port ${spec.port}`;
  const protocol = PROTOCOL_NAMES[spec.protocol] ?? `protocol ${spec.protocol}`;
  const facts = [
    `${protocol}${port}`,
    `TTL ${spec.ttl}`,
    `${spec.lengthBytes} bytes${spec.dontFragment ? ', DF' : ''}`,
  ];
  const width = Math.max(...steps.map(({ step }) => step.length));
  return [
    `${paint.strong(`${source ?? 'this host'} → ${destination}`)}  ${facts.join(', ')}`,
    ...steps.map((step) => `  ${step.step.padEnd(width)}  ${wordStep(step, paint)}`),
    verdictLine(explanation, paint),
  ];
}

function wordStep({ outcome, fact }: ExplainStep, paint: Paint): string {
  if (outcome === 'drop') return paint.bad(fact);
  return outcome === 'unsure' ? paint.warning(`? ${fact}`) : fact;
}

/** The verdict in the words of the trace: `forwarded to 192.0.2.2:8285 by lease 10.5.2.0/24`. */
function verdictLine({ verdict, reason, nextHop, lease, direction }: Explanation, paint: Paint): string {
  if (verdict === 'dropped') return paint.bad(`dropped: ${reason}`);
  if (verdict === 'delivered') return paint.good('delivered');
  const to = nextHop === null ? '' : ` to ${nextHop}`;
  const by = lease === null ? '' : ` by lease ${lease}`;
  return paint.good(`forwarded${to}${by}${direction === 'local' ? ', outside of the overlay' : ''}`);
}
