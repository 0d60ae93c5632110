import { readFileSync, readdirSync } from 'node:fs';

import type { BackendStatus, DirectionCounters } from '../backend/status.js';
import type { QueueDrops } from '../host/queue-drops.js';

/** What the metrics are read from, at the moment of a scrape. */
export interface MetricsSource {
  readonly version: string;
  /** `undefined` until the backend runs. */
  backend(): BackendStatus | undefined;
  /** `undefined` until the backend runs, and where the kernel does not tell. */
  queueDrops(): Promise<QueueDrops | undefined>;
  /** Leases in the network, this node's own included. */
  leases(): number;
  /** When this node's lease ends, in milliseconds since the epoch; `Infinity` for a reservation; `undefined` without one. */
  leaseExpiresAtMs(): number | undefined;
  /** Times that this node's subnet was found in another node's hands. */
  leasesLost(): number;
  storeRequests(): Iterable<{ readonly operation: string; readonly result: string; readonly count: number }>;
  storeWatchRestarts(): number;
  /** Keys beside the leases that hold none of this network. */
  storeSkippedKeys(): number;
}

/** The metrics in Prometheus' text format. */
export interface Metrics {
  readonly contentType: string;
  read(): Promise<string>;
}

/** Metrics of one agent. The library behind them is loaded here, for an agent without a health server needs none of it. */
export async function createMetrics(source: MetricsSource): Promise<Metrics> {
  const { Counter, Gauge, Registry } = await import('prom-client');
  const registry = new Registry();
  const registers = [registry];

  // Counters of the dataplane live in memory shared with the workers; a scrape copies their values. They only ever grow
  // there, so setting them anew keeps them monotonic.
  const perDirection = (name: string, help: string, value: (counters: DirectionCounters) => number): void => {
    new Counter({
      name,
      help,
      labelNames: ['direction'],
      registers,
      collect() {
        this.reset();
        for (const [direction, counters] of directions(source.backend())) this.inc({ direction }, value(counters));
      },
    });
  };
  perDirection('flannel_packets_total', 'Packets forwarded, by direction.', (counters) => counters.packets);
  perDirection('flannel_bytes_total', 'Inner bytes forwarded, IP headers included.', (counters) => counters.bytes);
  new Counter({
    name: 'flannel_dropped_packets_total',
    help: 'Packets dropped, by direction and reason.',
    labelNames: ['direction', 'reason'],
    registers,
    collect() {
      this.reset();
      for (const [direction, { dropped }] of directions(source.backend())) {
        for (const [reason, packets] of Object.entries(dropped)) this.inc({ direction, reason }, packets);
      }
    },
  });
  new Counter({
    name: 'flannel_queue_dropped_packets_total',
    help: 'Packets that found no room in a queue of the kernel before the dataplane, by queue: the overlay device, the socket.',
    labelNames: ['queue'],
    registers,
    async collect() {
      const drops = await source.queueDrops();
      this.reset();
      if (drops === undefined) return;
      this.inc({ queue: 'device' }, drops.deviceDrops);
      this.inc({ queue: 'socket' }, drops.socketDrops);
    },
  });
  new Gauge({
    name: 'flannel_offload',
    help: 'Whether an offload of the kernel is in use (1) or not (0), by name.',
    labelNames: ['name'],
    registers,
    collect() {
      this.reset();
      for (const { name, state } of source.backend()?.offloads ?? []) this.set({ name }, state === 'on' ? 1 : 0);
    },
  });
  new Counter({
    name: 'flannel_offload_step_downs_total',
    help: 'Times that an offload was given up while packets flowed, for one next hop or for good, by name.',
    labelNames: ['name'],
    registers,
    collect() {
      this.reset();
      for (const { name, stepDowns } of source.backend()?.offloads ?? []) this.inc({ name }, stepDowns);
    },
  });
  new Counter({
    name: 'flannel_worker_restarts_total',
    help: 'Times that a packet worker failed and was started again, by its name.',
    labelNames: ['worker'],
    registers,
    collect() {
      this.reset();
      for (const { name, restarts } of source.backend()?.workers ?? []) this.inc({ worker: name }, restarts);
    },
  });
  new Gauge({
    name: 'flannel_leases',
    help: "Leases in the network, this node's own included.",
    registers,
    collect() {
      this.set(source.leases());
    },
  });
  new Gauge({
    name: 'flannel_lease_expiry_timestamp_seconds',
    help: "When this node's lease ends unless it is renewed; +Inf for a reservation.",
    registers,
    collect() {
      const expiresAtMs = source.leaseExpiresAtMs();
      if (expiresAtMs === undefined) this.remove();
      else this.set(expiresAtMs / 1000);
    },
  });
  new Counter({
    name: 'flannel_leases_lost_total',
    help: "Times that this node's subnet was found in another node's hands.",
    registers,
    collect() {
      this.reset();
      this.inc(source.leasesLost());
    },
  });
  new Counter({
    name: 'flannel_store_requests_total',
    help: 'Requests to the store of leases, by operation and result.',
    labelNames: ['operation', 'result'],
    registers,
    collect() {
      this.reset();
      for (const { operation, result, count } of source.storeRequests()) this.inc({ operation, result }, count);
    },
  });
  new Counter({
    name: 'flannel_store_watch_restarts_total',
    help: 'Times the watch on leases began anew: disconnects, compaction.',
    registers,
    collect() {
      this.reset();
      this.inc(source.storeWatchRestarts());
    },
  });
  new Gauge({
    name: 'flannel_store_skipped_keys',
    help: 'Keys in the place of leases that hold none of this network.',
    registers,
    collect() {
      this.set(source.storeSkippedKeys());
    },
  });
  new Gauge({
    name: 'flannel_build_info',
    help: 'Always 1; the label names the version.',
    labelNames: ['version'],
    registers,
  }).set({ version: source.version }, 1);

  // The usual process metrics, read at a scrape. prom-client's own collection keeps a timer of ten milliseconds for the
  // event loop's delay, which an idle agent should not pay for.
  const processCounter = (name: string, help: string, value: () => number): void => {
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(value());
      },
    });
  };
  const processGauge = (name: string, help: string, value: () => number | undefined): void => {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        const current = value();
        if (current === undefined) this.remove();
        else this.set(current);
      },
    });
  };
  processCounter(
    'process_cpu_seconds_total',
    'User and system CPU time of all threads, in seconds.',
    () => (process.cpuUsage().user + process.cpuUsage().system) / 1e6,
  );
  processGauge('process_start_time_seconds', 'When the process started, since the epoch.', () => STARTED_AT_SECONDS);
  processGauge('process_resident_memory_bytes', 'Resident memory.', () => process.memoryUsage.rss());
  processGauge('process_virtual_memory_bytes', 'Virtual memory.', virtualMemoryBytes);
  processGauge('process_open_fds', 'Open file descriptors.', openDescriptors);
  processGauge('process_max_fds', 'Most file descriptors that may be open.', maxDescriptors);
  processGauge('nodejs_heap_size_used_bytes', "JavaScript heap in use, the main thread's.", () => {
    return process.memoryUsage().heapUsed;
  });

  return { contentType: registry.contentType, read: () => registry.metrics() };
}

const STARTED_AT_SECONDS = (Date.now() - process.uptime() * 1000) / 1000;

function directions(status: BackendStatus | undefined): readonly (readonly [string, DirectionCounters])[] {
  return status === undefined
    ? []
    : [
        ['encap', status.encap],
        ['decap', status.decap],
      ];
}

/** proc(5): `VmSize` in /proc/self/status, in kibibytes. */
function virtualMemoryBytes(): number | undefined {
  const match = /^VmSize:\s+(\d+) kB$/m.exec(readProc('/proc/self/status'));
  return match === null ? undefined : Number(match[1]) * 1024;
}

function openDescriptors(): number | undefined {
  try {
    return readdirSync('/proc/self/fd').length;
  } catch {
    return undefined;
  }
}

/** proc(5): the soft limit of "Max open files" in /proc/self/limits. */
function maxDescriptors(): number | undefined {
  const match = /^Max open files\s+(\d+)/m.exec(readProc('/proc/self/limits'));
  return match === null ? undefined : Number(match[1]);
}

function readProc(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
