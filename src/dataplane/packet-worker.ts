/** One packet worker as the main thread sees it: started, steered, watched, and started again should it fail. */
import { errorMessage, FlannelError } from '../errors.js';
import { COUNTERS_BYTES, readCounters, type WorkerCounts } from './counters.js';
import { LAST_DROPS_BYTES, readLastDrops, type LastDrop } from './last-drops.js';
import { closeFd, openWakeup, signalWakeup } from './native.js';
import type { OffloadLadder, StepDown } from './offloads.js';
import { RestartBackoff } from './restart-backoff.js';
import { SLOW_PATH_BYTES, SlowPathReader, type SlowPathRecord } from './slow-path.js';
import { TAP_BYTES, TapReader } from './tap.js';
import { CONTROL_BYTES, Order, WorkerControl, WorkerMessage, WorkerState } from './worker-control.js';
import { runInThread } from './worker-thread.js';
import type { WorkerData } from './worker.js';

/** What `flannelctl status` shows of a worker. */
export interface WorkerStatus {
  readonly name: string;
  readonly direction: 'encap' | 'decap';
  /** `restarting`: it has failed, and waits to be started again; `failed`: it is not started again. */
  readonly state: 'running' | 'parked' | 'stopped' | 'restarting' | 'failed';
  /** Batches handled; packets per batch = packets / batches. */
  readonly batches: number;
  /** Times that reading from the device or the socket failed. */
  readonly receiveErrors: number;
  /** Packets that were dropped as usual, but about which the main thread was too busy to tell anyone. */
  readonly slowPathOverflows: number;
  /** Times that it failed and was started again. */
  readonly restarts: number;
  /** Its last failures, until it has gone on without one for half a minute. */
  readonly failing?: {
    /** The first of them, ISO 8601. */
    readonly since: string;
    readonly times: number;
    /** Why it failed last. */
    readonly reason: string;
  };
}

export interface PacketWorkerOptions {
  readonly name: string;
  readonly data: Omit<WorkerData, 'counters' | 'slowPath' | 'tap' | 'lastDrops' | 'control' | 'wakeupFd'>;
  /** The rungs to stand on, asked for when a thread begins to carry packets. */
  readonly offloads: Pick<OffloadLadder, 'bits'>;
  /** Stand ready, and read nothing until {@link PacketWorker.resume}. */
  readonly parked?: boolean;
  /** A packet that needs thought. */
  readonly onSlowPath: (record: SlowPathRecord) => void;
  /** The worker has given up an offload. */
  readonly onStepDown: (step: StepDown) => void;
  /** The thread has ended with an error. It is started again at once, or in a moment. */
  readonly onFailure: (reason: string) => void;
  /** The thread has ended, and a new one would do no better. */
  readonly onGivenUp: (error: FlannelError) => void;
}

/** After this many packets at once the main thread takes a rest before it looks at the next, for it has other duties. */
const SLOW_PATH_BURST = 64;
const SLOW_PATH_REST_MS = 10;

/** One worker thread, its shared memory and its wake-up, seen from the main thread. */
export class PacketWorker {
  readonly name: string;
  private readonly shared = {
    counters: new SharedArrayBuffer(COUNTERS_BYTES),
    slowPath: new SharedArrayBuffer(SLOW_PATH_BYTES),
    tap: new SharedArrayBuffer(TAP_BYTES),
    lastDrops: new SharedArrayBuffer(LAST_DROPS_BYTES),
    control: new SharedArrayBuffer(CONTROL_BYTES),
  };
  /** What people who watch are shown. */
  readonly tap = new TapReader(this.shared.tap);
  private readonly control = new WorkerControl(this.shared.control);
  private readonly slowPath = new SlowPathReader(this.shared.slowPath);
  private readonly wakeupFd: number;
  private waiting: (() => void)[] = [];
  private slowPathTimer: NodeJS.Timeout | undefined;
  private readonly backoff = new RestartBackoff();
  private restarts = 0;
  private restartTimer: NodeJS.Timeout | undefined;
  private failingSince = '';
  private lastReason = '';
  private failure: FlannelError | undefined;
  private ended = false;

  /** Starts the thread. @throws FlannelError `HOST` when the addon is missing or there are no descriptors left */
  constructor(private readonly options: PacketWorkerOptions) {
    this.name = options.name;
    this.wakeupFd = openWakeup();
    if (options.parked === true) this.control.give(Order.Park);
    this.spawn();
  }

  get direction(): 'encap' | 'decap' {
    return this.options.data.direction;
  }

  counts(): WorkerCounts {
    return readCounters(this.shared.counters);
  }

  /** The last packet that it dropped for each reason for which it ever did. */
  lastDrops(): LastDrop[] {
    return readLastDrops(this.shared.lastDrops);
  }

  status(): WorkerStatus {
    const { batches, receiveErrors, slowPathOverflows } = this.counts();
    return {
      name: this.name,
      direction: this.direction,
      state: this.stateName(),
      batches,
      receiveErrors,
      slowPathOverflows,
      restarts: this.restarts,
      failing: this.failing(),
    };
  }

  /**
   * Resolves when the thread carries packets, or stands ready to.
   * @throws FlannelError when it has failed for good
   */
  started(): Promise<void> {
    return this.reached(this.options.parked === true ? WorkerState.Parked : WorkerState.Running);
  }

  /** Holds the thread between two batches; resolves when it stands still. Packets wait in the kernel's queues. */
  park(): Promise<void> {
    this.give(Order.Park);
    return this.reached(WorkerState.Parked);
  }

  /** Lets a parked thread go on. */
  resume(): Promise<void> {
    this.control.standOn(this.options.offloads.bits);
    this.give(Order.Run);
    return this.reached(WorkerState.Running);
  }

  /** Ends the thread after its present batch; resolves when it is gone. Never rejects. */
  async stop(): Promise<void> {
    this.signalStop();
    while (!this.ended) await this.changed();
    clearTimeout(this.slowPathTimer);
    closeFd(this.wakeupFd);
  }

  /** Tells the thread to end, without waiting: all that can be done while the process exits. */
  signalStop(): void {
    this.give(Order.Stop);
  }

  private give(order: Order): void {
    // One that is to end is not to be kept from it.
    if (this.control.order === Order.Stop) return;
    this.control.give(order);
    if (this.restartTimer !== undefined) this.restart();
    else if (!this.ended) signalWakeup(this.wakeupFd);
  }

  private stateName(): WorkerStatus['state'] {
    if (this.failure !== undefined) return 'failed';
    if (this.restartTimer !== undefined) return 'restarting';
    switch (this.control.state) {
      case WorkerState.Starting:
      case WorkerState.Running:
        return 'running';
      case WorkerState.Parked:
        return 'parked';
      case WorkerState.Stopped:
      case WorkerState.DeviceDeleted:
        return 'stopped';
    }
  }

  private failing(): WorkerStatus['failing'] {
    const times = this.backoff.inARow;
    return times === 0 ? undefined : { since: this.failingSince, times, reason: this.lastReason };
  }

  private async reached(state: WorkerState): Promise<void> {
    while (this.control.state !== state && !this.ended) await this.changed();
    if (this.failure !== undefined) throw this.failure;
  }

  private changed(): Promise<void> {
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  private announce(): void {
    const waiting = this.waiting;
    this.waiting = [];
    for (const resolve of waiting) resolve();
  }

  private spawn(): void {
    this.control.standOn(this.options.offloads.bits);
    const data: WorkerData = { ...this.options.data, ...this.shared, wakeupFd: this.wakeupFd };
    const worker = runInThread(this.name, data);
    let thrown: unknown;
    worker.on('message', (message: WorkerMessage | StepDown) => {
      if (typeof message === 'object') this.options.onStepDown(message);
      else if (message === WorkerMessage.SlowPath) this.drainSlowPath();
      else this.announce();
    });
    worker.on('error', (error) => (thrown = error));
    worker.on('exit', () => this.exited(thrown));
  }

  private exited(thrown: unknown): void {
    if (this.control.order === Order.Stop) return this.end();
    // The bell may have been on its way when the thread died.
    this.drainSlowPath();
    if (this.control.state === WorkerState.DeviceDeleted) return this.giveUp('the overlay device was deleted', thrown);
    const reason = thrown === undefined ? 'its thread has ended' : errorMessage(thrown);
    if (this.backoff.inARow === 0) this.failingSince = new Date().toISOString();
    this.lastReason = reason;
    const delayMs = this.backoff.failed(this.counts().batches);
    if (delayMs === undefined) return this.giveUp(`${reason} (${this.backoff.inARow} times in a row)`, thrown);
    this.control.enter(WorkerState.Starting);
    this.options.onFailure(reason);
    // What comes meanwhile waits in the kernel.
    if (delayMs === 0) this.restart();
    else this.restartTimer = setTimeout(() => this.restart(), delayMs);
  }

  /** On the descriptors of the thread that has ended. */
  private restart(): void {
    clearTimeout(this.restartTimer);
    this.restartTimer = undefined;
    if (this.control.order === Order.Stop) return this.end();
    this.restarts++;
    this.spawn();
  }

  private giveUp(reason: string, cause: unknown): void {
    this.failure = new FlannelError('BACKEND', `packet worker ${this.name} failed: ${reason}`, { cause });
    this.end();
    this.options.onGivenUp(this.failure);
  }

  private end(): void {
    this.ended = true;
    this.control.enter(WorkerState.Stopped);
    this.announce();
  }

  private drainSlowPath(): void {
    clearTimeout(this.slowPathTimer);
    const count = this.slowPath.drain(this.options.onSlowPath, SLOW_PATH_BURST);
    if (count < SLOW_PATH_BURST && this.slowPath.rest()) return;
    this.slowPathTimer = setTimeout(() => this.drainSlowPath(), SLOW_PATH_REST_MS);
  }
}
