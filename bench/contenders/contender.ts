import type { OffloadStatus } from '../../src/dataplane/offloads.js';
import type { PodSubnet, Site } from '../site.js';

/** What a contender has made of two nodes. */
export interface Carrier {
  /** Bytes that an inner packet may have. */
  readonly mtuBytes: number;
  /** The pods' subnets of node 1 and 2; `undefined` where only hosts can be reached. */
  readonly subnets?: readonly [PodSubnet, PodSubnet];
  /** The addresses by which the nodes themselves reach each other through it. */
  readonly hostAddresses: readonly [string, string];
  /** Processes that carry packets. */
  readonly agents: readonly number[];
  /** What the agent of node 1 says of its offloads; absent for what has no flannelctl. */
  readonly offloads?: () => Promise<readonly OffloadStatus[]>;
  /** Makes further nodes known, by the subnets they hold and their addresses; absent where that is not foreseen. */
  readonly addNodes?: (nodes: readonly FarNode[]) => Promise<void>;
}

/** A node of which there is nothing but its lease. */
export interface FarNode {
  /** `10.5.7.0/24`, one of {@link FAR_SUBNETS}. */
  readonly subnet: string;
  readonly address: string;
}

/** Subnets that nodes of an agent with `addNodes` never lease (`agent.ts`): 10.5.1.0/24 to 10.5.250.0/24. */
export const FAR_SUBNETS = Array.from({ length: 250 }, (_, index) => `10.5.${index + 1}.0/24`);

/** A way of carrying packets from one node to another. */
export interface Contender {
  readonly name: string;
  readonly title: string;
  /** Sets both nodes of a site up. @throws FlannelError when this machine cannot */
  start(site: Site): Promise<Carrier>;
}

/** The pods' subnets where nobody leases them. */
export const POD_SUBNETS: readonly [PodSubnet, PodSubnet] = [
  { gateway: '10.5.1.1', prefixLength: 24 },
  { gateway: '10.5.2.1', prefixLength: 24 },
];

/** The subnet that a gateway belongs to: `10.5.1.0/24`. */
export function subnetOf({ gateway, prefixLength }: PodSubnet): string {
  return `${networkAddress({ gateway, prefixLength })}/${prefixLength}`;
}

/** The first address of a subnet of 256, which flannel gives to the overlay's device: `10.5.1.0`. */
export function networkAddress({ gateway }: PodSubnet): string {
  return gateway.replace(/\d+$/, '0');
}

/** What both nodes do, each with the other: `work` gets a node's index, 0 or 1. */
export async function onBoth(work: (own: 0 | 1, other: 0 | 1) => Promise<void>): Promise<void> {
  await Promise.all([work(0, 1), work(1, 0)]);
}
