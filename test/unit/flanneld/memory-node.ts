/** A node in memory, to run an agent on. */
import assert from 'node:assert/strict';

import { systemClock, type Clock } from '../../../src/clock.js';
import type { Backend, BackendOptions, RunningBackend } from '../../../src/backend/backend.js';
import type { NetworkConfigError } from '../../../src/errors.js';
import { AgentState } from '../../../src/flanneld/agent-state.js';
import { Agent, type AgentParts } from '../../../src/flanneld/agent.js';
import type { NodeHost } from '../../../src/flanneld/node-host.js';
import { readInvocation, type FlanneldOptions } from '../../../src/flanneld/flags.js';
import { KnownLeases } from '../../../src/flanneld/known-leases.js';
import { checkOutsideNetwork, type ExternalInterface } from '../../../src/host/external-interface.js';
import type { LogFields, Logger } from '../../../src/log.js';
import { ServiceNotifier } from '../../../src/observe/sd-notify.js';
import { StoreStatistics } from '../../../src/observe/store-statistics.js';
import type { Lease } from '../../../src/subnet/lease.js';
import { parseNetworkConfig, type NetworkConfig } from '../../../src/subnet/network-config.js';
import type { StoreSnapshot } from '../../../src/subnet/store-snapshot.js';
import type { LeaseRequest, LeaseWatcher, OwnLeaseWatcher, SubnetManager } from '../../../src/subnet/subnet-manager.js';
import { backendStatus } from '../../support/backend-status.js';
import { ip, prefix } from '../../support/addresses.js';

export function lease(subnet: string, publicIp: string): Lease {
  return {
    subnet: prefix(subnet),
    publicIp: ip(publicIp),
    publicIpv6: null,
    backendType: '',
    reserved: false,
    expiresAtMs: Date.UTC(2030, 0, 1),
  };
}

export const CONFIG = parseNetworkConfig('{"Network": "10.5.0.0/16"}', { backendTypes: ['udp'] });
export const OWN = lease('10.5.1.0/24', '192.0.2.1');
export const PEER = lease('10.5.2.0/24', '192.0.2.2');
export const EXTERNAL: ExternalInterface = { name: 'eth0', index: 2, mtuBytes: 1500, address: ip('192.0.2.1') };

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

export function never<T>(signal: AbortSignal): Promise<T> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
}

/** Waits are a fiftieth of what they are to an agent. */
export const HASTY: Clock = { ...systemClock, after: (delayMs, call) => systemClock.after(delayMs / 50, call) };

/** A node in memory: every step is written down, and each can be replaced by a test. */
export class Node {
  readonly events: string[] = [];
  readonly lines: string[] = [];
  readonly notified: string[] = [];
  readonly stop = new AbortController();
  clock = systemClock;
  readonly options: FlanneldOptions;
  readonly logger: Logger;
  readonly statistics: StoreStatistics;
  readonly leases = new KnownLeases();
  readonly state: AgentState;
  ownLease: OwnLeaseWatcher | undefined;
  watcher: LeaseWatcher | undefined;
  tellConfig: (config: NetworkConfig | NetworkConfigError) => void = () => undefined;
  endKeeping: () => void = () => undefined;
  failBackend: (error: Error) => void = () => undefined;

  networkConfig: (signal: AbortSignal) => Promise<NetworkConfig> = () => Promise.resolve(CONFIG);
  acquireLease: (request: LeaseRequest, signal: AbortSignal) => Promise<Lease> = () => Promise.resolve(OWN);
  chooseInterface: () => Promise<ExternalInterface> = () => Promise.resolve(EXTERNAL);
  /** The only address that this host has. */
  address = EXTERNAL.address;
  startBackend: (options: BackendOptions) => Promise<void> = () => Promise.resolve();
  listsLeases = true;
  /** What the last run left, and what this one leaves. */
  snapshot: StoreSnapshot | undefined;
  ensureRules: () => Promise<void> = () => Promise.resolve();
  writeSubnetFile: () => Promise<void> = () => Promise.resolve();

  constructor(args: string[] = []) {
    const invocation = readInvocation(args, {});
    assert.ok(invocation.action === 'run');
    this.options = invocation.options;
    const log =
      (level: string) =>
      (message: string, _fields?: LogFields): void => {
        if (level !== 'debug') this.lines.push(`${level} ${message}`);
      };
    this.logger = { debug: log('debug'), info: log('info'), warn: log('warn'), error: log('error') };
    this.statistics = new StoreStatistics();
    this.state = new AgentState(this.options, this.leases, this.statistics);
  }

  run(): Promise<void> {
    return this.agent().run(this.stop.signal);
  }

  agent(): Agent {
    return new Agent({
      options: this.options,
      logger: this.logger,
      manager: this.manager(),
      leases: this.leases,
      state: this.state,
      host: this.host(),
      notifier: ServiceNotifier.create(
        { NOTIFY_SOCKET: '/notify' },
        (_path, message) => this.notified.push(message),
        this.logger,
      ),
      clock: this.clock,
      snapshots: this.snapshots(),
      backendOfType: () => Promise.resolve(this.backend()),
    });
  }

  private snapshots(): AgentParts['snapshots'] {
    let source: () => StoreSnapshot | undefined = () => undefined;
    return {
      read: () => Promise.resolve(this.snapshot),
      follow: (followed) => (source = followed),
      changed: () => undefined,
      flush: () => {
        this.snapshot = source() ?? this.snapshot;
        return Promise.resolve();
      },
    };
  }

  private manager(): SubnetManager {
    return {
      name: 'memory',
      networkConfig: (signal) => {
        this.events.push('configuration');
        return this.networkConfig(signal);
      },
      acquireLease: (_config, request, signal) => {
        this.events.push('lease');
        return this.acquireLease(request, signal);
      },
      keepLease: (_lease, _margin, watcher, signal) => {
        this.events.push('keep');
        this.ownLease = watcher;
        return Promise.race([untilAborted(signal), new Promise<void>((resolve) => (this.endKeeping = resolve))]);
      },
      watchLeases: (_config, watcher, signal) => {
        this.events.push('watch');
        this.watcher = watcher;
        if (this.listsLeases) watcher.snapshot([OWN, PEER]);
        return untilAborted(signal);
      },
      watchNetworkConfig: (tell, signal) => {
        this.tellConfig = tell;
        return untilAborted(signal);
      },
      listLeases: () => Promise.resolve([]),
      close: () => this.events.push('close'),
    };
  }

  private host(): NodeHost {
    return {
      chooseInterface: () => {
        this.events.push('interface');
        return this.chooseInterface();
      },
      hasAddress: (sought) => Promise.resolve(sought === this.address),
      checkInterface: (external, config) => checkOutsideNetwork(external, config.network),
      previousSubnet: () => Promise.resolve(prefix('10.5.7.0/24')),
      ensureRules: () => {
        this.events.push('rules');
        return this.ensureRules();
      },
      writeSubnetFile: () => {
        this.events.push('subnet.env');
        return this.writeSubnetFile();
      },
      warnings: () => Promise.resolve(['forwarding is off']),
    };
  }

  private backend(): Backend {
    return {
      type: 'udp',
      validate: () => undefined,
      leaseAttributes: () => ({ backendType: '' }),
      start: async (options) => {
        this.events.push('backend');
        await this.startBackend(options);
        const failed = new Promise<never>((_resolve, reject) => (this.failBackend = reject));
        const running: RunningBackend = {
          mtuBytes: 1472,
          deviceName: 'flannel0',
          setLeases: (leases) => this.events.push(`table ${leases.length}`),
          changeLeases: (changed, removed) => this.events.push(`change ${changed.length} ${removed.length}`),
          status: () => backendStatus(),
          failed,
          explain: () => assert.fail('nobody asks'),
          tap: { taps: [], device: 'flannel0', tunnelEnd: { address: 0, port: 8285 }, leaseOf: () => undefined },
          descriptors: () => [],
          park: () => Promise.resolve(),
          resume: () => Promise.resolve(),
          stop: () => {
            this.events.push('backend stop');
            return Promise.resolve();
          },
        };
        return running;
      },
    };
  }

  /** Runs until the agent says it is ready, then until a test has seen enough. */
  async whileReady(look: () => void | Promise<void>): Promise<void> {
    const life = this.run();
    try {
      await until(() => this.state.phase === 'ready');
      await look();
    } finally {
      this.stop.abort();
      await life;
    }
  }
}

export async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; !condition(); i++) {
    assert.ok(i < 5000, 'it never came');
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
