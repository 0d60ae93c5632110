/** Explains what would become of a packet, with the workers' own code: see `dataplane/dry-run.ts`. */
import type { SourceCheck } from '../../dataplane/decap.js';
import { dryRunDecap, dryRunEncap, type DryVerdict } from '../../dataplane/dry-run.js';
import { ForwardingTable, NO_LEASE, OUTSIDE, type ForwardingTableReader } from '../../dataplane/forwarding-table.js';
import { silentLogger } from '../../log.js';
import { prefixContains, type Ipv4Prefix } from '../../packet/address.js';
import { IPV4_HEADER_BYTES, writeIpv4Header } from '../../packet/ipv4.js';
import type { Lease } from '../../subnet/lease.js';
import type { PacketExplanation, PacketQuestion, TableEntry } from '../explain.js';
import { LeaseForwarding } from './lease-forwarding.js';

export interface ExplainerOptions {
  readonly table: ForwardingTableReader;
  readonly network: Ipv4Prefix;
  readonly subnetLength: number;
  readonly port: number;
  readonly backendType: string;
  readonly sourceCheck: SourceCheck;
  /**
   * Where the other nodes are told that this one is. A node that has another address itself is behind NAT, which gives its
   * datagrams this one as their source, or it is a stranger to all others.
   */
  readonly publicIp: number;
}

/** Answers what the workers would do with a packet, here and at the next hop, by dry runs of their own code over the live table. */
export class Explainer {
  constructor(private readonly options: ExplainerOptions) {}

  explain(question: PacketQuestion, leases: Iterable<Lease>): PacketExplanation {
    const { table, sourceCheck } = this.options;
    const { source, destination, sender } = question;
    const entries = { sourceEntry: this.entryOf(source), destinationEntry: this.entryOf(destination) };
    const packet = packetOf(question, question.ttl);
    if (sender !== undefined) {
      const here = dryRunDecap(table, sourceCheck, sender, packet);
      return { direction: 'decap', ...entries, senderIsMember: table.isMember(sender), here };
    }
    const here = dryRunEncap(table, packet);
    const there = here.verdict === 'forwarded' ? this.atNextHop(here.nextHop.address, question, leases) : undefined;
    return { direction: 'encap', ...entries, here, there };
  }

  private entryOf(address: number): TableEntry {
    const { table } = this.options;
    const slot = table.lookup(address);
    if (slot >= 0) {
      return { kind: 'leased', nextHop: { address: table.slotAddress(slot), port: table.slotPort(slot) } };
    }
    if (slot === NO_LEASE) return { kind: 'no-lease' };
    return { kind: slot === OUTSIDE ? 'outside-network' : 'own-subnet' };
  }

  /** `undefined` when the lease of the destination went away between the table's answer and now. */
  private atNextHop(peer: number, question: PacketQuestion, leases: Iterable<Lease>): DryVerdict | undefined {
    const { source, destination, ttl } = question;
    const { network, subnetLength, port, backendType, publicIp: sender } = this.options;
    // Only these leases can decide about this packet; a network may have tens of thousands.
    const relevant = [...leases].filter(
      ({ subnet, publicIp }) =>
        publicIp === sender || prefixContains(subnet, source) || prefixContains(subnet, destination),
    );
    const own = relevant.find(({ subnet, publicIp }) => publicIp === peer && prefixContains(subnet, destination));
    if (own === undefined) return undefined;
    const table = ForwardingTable.create({ network, subnetLength, workers: 1 });
    const forwarding = new LeaseForwarding({
      table,
      network,
      ownSubnet: own.subnet,
      ownUnderlayAddresses: [peer],
      port,
      backendType,
      logger: silentLogger,
    });
    forwarding.replaceAll(relevant);
    table.setOwnAddresses([peer]);
    return dryRunDecap(table, 'strict', sender, packetOf(question, ttl - 1));
  }
}

function packetOf({ source, destination, protocol }: PacketQuestion, ttl: number): Buffer {
  const packet = Buffer.alloc(IPV4_HEADER_BYTES);
  writeIpv4Header(packet, 0, { totalBytes: packet.length, protocol, source, destination, ttl });
  return packet;
}
