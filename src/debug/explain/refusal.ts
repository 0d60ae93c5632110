import type { RouteAnswer, RouteQuestion } from '../../host/route-lookup.js';
import { formatIpv4 } from '../../packet/address.js';
import type { HostView } from './host-view.js';
import type { HostDropReason } from './packet-spec.js';

/** Why the kernel has no way for a packet. */
export interface Refusal {
  readonly reason: HostDropReason;
  readonly fact: string;
}

/**
 * Finds out why the kernel refuses a packet. Of one that comes in by a device, most kernels say "invalid" whatever the
 * reason is, so that the settings and the way back to its source have to be looked at.
 */
export async function explainRefusal(
  host: HostView,
  question: RouteQuestion,
  answer: Extract<RouteAnswer, { kind: 'refused' }>,
): Promise<Refusal> {
  const { destination, source, inDevice } = question;
  const to = formatIpv4(destination);
  if (inDevice === undefined) {
    return { reason: reasonOf(answer), fact: `the kernel has no way to ${to}: ${answer.text}` };
  }
  if (source !== undefined && (await failsReversePath(host, source, inDevice))) {
    const fact = `${inDevice} has rp_filter on, and the way back to ${formatIpv4(source)} does not lead there`;
    return { reason: 'rp-filter', fact };
  }
  const own = await host.route({ destination });
  if (own.kind === 'refused') return { reason: reasonOf(own), fact: `the kernel has no way to ${to}: ${own.text}` };
  if (own.kind === 'forward' && !(await host.forwards(inDevice))) {
    return { reason: 'forwarding-off', fact: `this host does not forward what comes in by ${inDevice} (ip_forward)` };
  }
  return { reason: 'unreachable', fact: `the kernel does not take this packet from ${inDevice}: ${answer.text}` };
}

/** The kernel's own test (net.ipv4.conf.*.rp_filter): strict is 1, loose is 2. */
async function failsReversePath(host: HostView, source: number, inDevice: string): Promise<boolean> {
  const mode = await host.reversePathFilter(inDevice);
  if (mode === 0) return false;
  const back = await host.route({ destination: source });
  if (back.kind === 'refused') return true;
  return mode === 1 && back.device !== inDevice;
}

function reasonOf({ reason }: Extract<RouteAnswer, { kind: 'refused' }>): HostDropReason {
  return reason === 'reverse-path' ? 'rp-filter' : reason;
}
