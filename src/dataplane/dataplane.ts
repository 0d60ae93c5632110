/**
 * The packet workers of one network: a thread for each queue of the overlay device (encapsulation) and one for each
 * socket (decapsulation). They share nothing but the forwarding table, which the control plane writes.
 */
import type { FlannelError } from '../errors.js';
import type { Logger } from '../log.js';
import { UDP_OVERHEAD_BYTES } from '../packet/ipv4.js';
import { ReasonReporter } from '../reason-reporter.js';
import { sumCounters, type DirectionCounters } from './counters.js';
import type { SourceCheck } from './decap.js';
import { DropReason } from './drop-reasons.js';
import type { ForwardingTable } from './forwarding-table.js';
import { latestDrops, type LastDrop } from './last-drops.js';
import { pathMtu } from './native.js';
import type { OffloadLadder } from './offloads.js';
import { PacketWorker, type WorkerStatus } from './packet-worker.js';
import { endWaitingThreads } from './worker-thread.js';
import type { SlowPathPacket, SlowPathRecord } from './slow-path.js';
import type { WorkerTap } from './tap.js';

export interface DataplaneOptions {
  /** Made with room for at least two workers a queue. */
  readonly table: ForwardingTable;
  readonly sourceCheck: SourceCheck;
  /** Queues of the overlay device (`openTun`), one for each encapsulating worker. The caller closes them after `stop`. */
  readonly tunFds: readonly number[];
  /** Sockets of the tunnel (`openUdp`), as many as queues. The caller closes them after `stop`. */
  readonly socketFds: readonly number[];
  /** Probed on those queues and sockets (`probe-offloads.ts`) before workers carry packets. */
  readonly offloads: OffloadLadder;
  /** The address that the sockets are bound to. */
  readonly externalAddress: number;
  /** Packets that were not forwarded and that somebody is to be told about, or that are to be cut. */
  readonly onSlowPath: (packet: SlowPathPacket) => void;
  /** Let the workers stand ready, and read nothing until `resume`. */
  readonly parked?: boolean;
  readonly logger: Logger;
}

/** The workers of both directions over one table; started by `start`, they run until `stop`. */
export class Dataplane {
  private readonly workers: PacketWorker[] = [];
  private readonly stopWithProcess = (): void => this.workers.forEach((worker) => worker.signalStop());
  private fail: (error: FlannelError) => void = () => undefined;
  private stopping: Promise<void> | undefined;

  /**
   * Rejects when a worker cannot go on, such as when the device was deleted; pending otherwise. One that fails is started
   * again on its descriptors.
   */
  readonly failed: Promise<never>;

  /**
   * Starts the workers; when this resolves, packets flow, or could.
   * @throws FlannelError when one of them cannot be started
   */
  static async start(options: DataplaneOptions): Promise<Dataplane> {
    const dataplane = new Dataplane(options);
    try {
      dataplane.addWorkers();
      await Promise.all(dataplane.workers.map((worker) => worker.started()));
      endWaitingThreads();
      return dataplane;
    } catch (error) {
      await dataplane.stop();
      throw error;
    }
  }

  private constructor(private readonly options: DataplaneOptions) {
    const { tunFds, socketFds } = options;
    if (tunFds.length === 0 || tunFds.length !== socketFds.length) {
      throw new TypeError('Expected as many "tunFds" as "socketFds", and at least one');
    }
    this.failed = new Promise<never>((_, reject) => (this.fail = reject));
    // Whoever does not look at it must not lose the process to an unhandled rejection.
    this.failed.catch(() => undefined);
    // A worker that sleeps in a system call would keep the process from exiting.
    process.on('exit', this.stopWithProcess);
  }

  /** What passed and what did not, in each direction, as of each worker's latest batch. */
  counters(): { encap: DirectionCounters; decap: DirectionCounters } {
    const of = (direction: 'encap' | 'decap'): DirectionCounters =>
      sumCounters(this.workers.filter((worker) => worker.direction === direction).map((worker) => worker.counts()));
    return { encap: of('encap'), decap: of('decap') };
  }

  /** The last packet that was dropped for each reason, in each direction. */
  lastDrops(): { encap: LastDrop[]; decap: LastDrop[] } {
    const of = (direction: 'encap' | 'decap'): LastDrop[] =>
      latestDrops(
        this.workers.filter((worker) => worker.direction === direction).flatMap((worker) => worker.lastDrops()),
      );
    return { encap: of('encap'), decap: of('decap') };
  }

  /** What people can watch: the tap of each worker. */
  taps(): WorkerTap[] {
    // A queue has two workers, one each way.
    return this.workers.map(({ direction, tap }, index) => ({ direction, queue: index >>> 1, reader: tap }));
  }

  workerStatus(): WorkerStatus[] {
    return this.workers.map((worker) => worker.status());
  }

  /** Holds all workers between two batches; packets wait in the kernel's queues as long as those have room. */
  async park(): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker.park()));
  }

  /** Lets parked workers go on. */
  async resume(): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker.resume()));
  }

  /** Ends the workers, each after its present batch. Never rejects; calling it again is harmless. */
  stop(): Promise<void> {
    this.stopping ??= this.stopAll();
    return this.stopping;
  }

  private async stopAll(): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker.stop()));
    process.off('exit', this.stopWithProcess);
  }

  private addWorkers(): void {
    const { tunFds, socketFds, table, sourceCheck } = this.options;
    tunFds.forEach((tunFd, queue) => {
      for (const direction of ['encap', 'decap'] as const) {
        const index = 2 * queue + (direction === 'encap' ? 0 : 1);
        this.addWorker(`${direction}-${queue}`, {
          ...{ direction, index, sourceCheck, table: table.buffer, tunFd, socketFd: socketFds[queue] },
        });
      }
    });
  }

  private addWorker(name: string, data: ConstructorParameters<typeof PacketWorker>[0]['data']): void {
    const { logger, table, offloads } = this.options;
    const failures = new ReasonReporter((reason) =>
      logger.warn(`packet worker ${name} failed and is started again: ${reason}`),
    );
    this.workers.push(
      new PacketWorker({
        name,
        data,
        offloads,
        parked: this.options.parked,
        onSlowPath: (record) => this.handOver(record, data.direction),
        onStepDown: (step) => offloads.stepDown(step, logger),
        onFailure: (reason) => {
          table.offline(data.index);
          failures.report(reason);
        },
        onGivenUp: (error) => {
          table.offline(data.index);
          this.fail(error);
        },
      }),
    );
  }

  private handOver(record: SlowPathRecord, direction: 'encap' | 'decap'): void {
    const { reason, packet, underlayAddress } = record;
    this.options.onSlowPath({
      reason,
      packet,
      senderAddress: direction === 'decap' ? underlayAddress : 0,
      innerMtuBytes: reason === DropReason.PacketTooBig ? this.innerMtu(underlayAddress) : 0,
    });
  }

  private innerMtu(nextHop: number): number {
    return Math.max(0, (pathMtu(this.options.externalAddress, nextHop) ?? 0) - UDP_OVERHEAD_BYTES);
  }
}
