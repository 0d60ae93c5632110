import type { ExplainAgent } from '../explain/explain.js';
import type { TapHub } from '../../observe/tap-hub.js';
import type { Ipv4Prefix } from '../../packet/address.js';
import type { Lease } from '../../subnet/lease.js';
import type { ProbeBoard } from '../../subnet/probe-board.js';

/** The agent, as far as probes have to do with it. */
export interface ProbeNode {
  readonly hub: TapHub;
  readonly board: ProbeBoard | undefined;
  /** Answers for the dataplane, to `flannelctl explain` as to this. */
  readonly explainer: ExplainAgent;
  /** Where it stands; `undefined` while no packets flow. */
  place(): ProbePlace | undefined;
  /** The leases of all nodes that packets can be sent to. */
  leases(): readonly Lease[];
}

export interface ProbePlace {
  readonly publicIp: number;
  readonly network: Ipv4Prefix;
  readonly subnet: Ipv4Prefix;
  /** One that it lost to another node, and its pods may still have addresses of. */
  readonly formerSubnet?: Ipv4Prefix;
  readonly device: string;
  readonly deviceMtuBytes: number;
  /** Of the tunnel. */
  readonly port: number;
  /** What troubles the agent, in a line. */
  readonly trouble: string | undefined;
}
