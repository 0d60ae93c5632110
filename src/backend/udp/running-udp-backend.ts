/** The udp backend while it runs: leases go into the table, counters come out, and what concerns it on this host is kept up to date. */
import { getSystemErrorName } from 'node:util';
import type { Dataplane } from '../../dataplane/dataplane.js';
import { dropReasonName } from '../../dataplane/drop-reasons.js';
import type { OffloadLadder } from '../../dataplane/offloads.js';
import { restoreTunOffloads } from '../../dataplane/probe-offloads.js';
import type { ForwardingTable } from '../../dataplane/forwarding-table.js';
import { formatIpv4, type Ipv4Prefix } from '../../packet/address.js';
import type { Lease } from '../../subnet/lease.js';
import type { RunningBackend } from '../backend.js';
import type { StoredDescriptor } from '../descriptor-store.js';
import type { TapSource } from '../tap-source.js';
import type { ExplainPacket } from '../explain.js';
import type { BackendStatus, LastDropStatus } from '../status.js';
import type { Explainer } from './explain.js';
import type { LeaseForwarding } from './lease-forwarding.js';
import type { LinkKeeper } from './link-keeper.js';
import type { OwnAddresses } from './own-addresses.js';
import type { SlowPath } from './slow-path.js';

/**
 * How soon an address that this host is given becomes one that no peer may use as a source, and how soon the device gets
 * back what others took from it.
 */
const HOST_CHECK_MS = 5000;

export interface RunningUdpBackendParts {
  readonly type: string;
  readonly deviceName: string;
  /** Its queues. */
  readonly deviceFds: readonly number[];
  readonly mtuBytes: number;
  readonly port: number;
  readonly table: ForwardingTable;
  readonly leases: LeaseForwarding;
  readonly slowPath: SlowPath;
  readonly link: LinkKeeper;
  readonly dataplane: Dataplane;
  readonly tap: TapSource;
  readonly explainer: Explainer;
  readonly ownAddresses: OwnAddresses;
  readonly offloads: OffloadLadder;
  readonly descriptors: readonly StoredDescriptor[];
  /** Stops the workers and closes what they used. */
  readonly release: () => Promise<void>;
}

/** The backend at work; `failed` rejects with a FlannelError when it cannot go on. */
export class RunningUdpBackend implements RunningBackend {
  readonly deviceName: string;
  readonly mtuBytes: number;
  readonly failed: Promise<never>;
  readonly tap: TapSource;
  readonly explain: ExplainPacket;
  private readonly hostChecks: NodeJS.Timeout;

  constructor(private readonly parts: RunningUdpBackendParts) {
    this.deviceName = parts.deviceName;
    this.mtuBytes = parts.mtuBytes;
    this.failed = parts.dataplane.failed;
    this.tap = parts.tap;
    this.explain = (question, leases) => parts.explainer.explain(question, leases);
    this.hostChecks = setInterval(() => void this.checkHost(), HOST_CHECK_MS);
    this.hostChecks.unref();
  }

  setLeases(leases: readonly Lease[]): void {
    this.parts.leases.replaceAll(leases);
  }

  changeLeases(changed: readonly Lease[], removed: readonly Ipv4Prefix[]): void {
    this.parts.leases.change(changed, removed);
  }

  status(): BackendStatus {
    const { type, deviceName, mtuBytes, port, table, slowPath, dataplane, offloads } = this.parts;
    return {
      type,
      device: deviceName,
      mtuBytes,
      port,
      workers: dataplane.workerStatus(),
      offloads: offloads.status(),
      table: { leases: table.leaseCount, nextHops: table.nextHopCount, memoryBytes: table.memoryBytes },
      ...dataplane.counters(),
      icmpErrorsSent: slowPath.icmpErrorsSent,
      icmpErrorsRateLimited: slowPath.icmpErrorsRateLimited,
      lastDrops: lastDropStatus(dataplane.lastDrops()),
    };
  }

  descriptors(): readonly StoredDescriptor[] {
    return this.parts.descriptors;
  }

  park(): Promise<void> {
    return this.parts.dataplane.park();
  }

  resume(): Promise<void> {
    const [queue] = this.parts.deviceFds;
    restoreTunOffloads(queue, this.parts.offloads);
    return this.parts.dataplane.resume();
  }

  async stop(): Promise<void> {
    clearInterval(this.hostChecks);
    await this.parts.release();
  }

  private async checkHost(): Promise<void> {
    await this.parts.link.check(await this.parts.ownAddresses.refresh());
  }
}

function lastDropStatus(drops: ReturnType<Dataplane['lastDrops']>): LastDropStatus[] {
  return (['encap', 'decap'] as const).flatMap((direction) =>
    drops[direction].map(({ reason, atMs, underlayAddress, error, packet, lengthBytes }) => ({
      direction,
      reason: dropReasonName(reason),
      time: new Date(atMs).toISOString(),
      underlayAddress: underlayAddress === 0 ? null : formatIpv4(underlayAddress),
      error: error === 0 ? null : getSystemErrorName(-error),
      packet: packet.toString('hex'),
      lengthBytes,
    })),
  );
}
