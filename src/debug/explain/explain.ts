/**
 * What would become of a packet on this node, decision by decision: the kernel is asked for its routes, the packet filter
 * is read, and the agent answers for the dataplane with the code and the table that its workers use.
 */
import { FlannelError } from '../../errors.js';
import type { ExplainAnswer, StatusAnswer } from '../../observe/control-protocol.js';
import { formatIpv4, parseIpv4, parsePrefix, prefixContains } from '../../packet/address.js';
import { explainDecap } from './decap-way.js';
import { explainEncap } from './encap-way.js';
import type { HostView } from './host-view.js';
import type { Explanation, PacketSpec } from './packet-spec.js';
import type { ExplainScene } from './scene.js';

/** The running agent, as far as it is asked. */
export interface ExplainAgent {
  status(): Promise<StatusAnswer>;
  explain(query: Readonly<Record<string, string>>): Promise<ExplainAnswer>;
}

/**
 * Explains one packet.
 * @throws FlannelError `CONTROL` when no dataplane runs; `HOST` when this host cannot be asked
 */
export async function explainPacket(spec: PacketSpec, agent: ExplainAgent, host: HostView): Promise<Explanation> {
  const { state, reason, backend, interface: external, publicIP } = await agent.status();
  if (backend === undefined || external === undefined) {
    const why = reason === undefined ? '' : `: ${reason}`;
    throw new FlannelError('CONTROL', `no packets flow yet, the agent is at "${state}"${why}`);
  }
  const scene: ExplainScene = {
    host,
    device: backend.device,
    deviceMtuBytes: backend.mtuBytes,
    port: backend.port,
    external: { ...external, address: parseIpv4(external.address) ?? 0 },
    natAddress: publicIP === external.address ? undefined : publicIP,
    ask: ({ destination, protocol, ttl, sender }, source) =>
      agent.explain({
        source: formatIpv4(source),
        destination: formatIpv4(destination),
        protocol: String(protocol),
        ttl: String(ttl),
        ...(sender === undefined ? {} : { sender: formatIpv4(sender) }),
      }),
  };
  const sender = spec.sender ?? (await senderOf(spec, scene));
  return sender === undefined ? explainEncap(spec, scene) : explainDecap({ ...spec, sender }, scene);
}

/** What comes from a subnet of another node arrives here in a datagram of that node, if at all. */
async function senderOf(spec: PacketSpec, scene: ExplainScene): Promise<number | undefined> {
  if (spec.source === undefined) return undefined;
  const { source, network } = await scene.ask(spec, spec.source);
  const inNetwork = prefixContains(parsePrefix(network) ?? { address: 0, length: 0 }, spec.source);
  if (!inNetwork || source.entry !== 'leased') return undefined;
  return parseIpv4((source.nextHop ?? '').split(':')[0]);
}
