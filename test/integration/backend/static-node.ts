/**
 * A node without a store: the udp backend with leases that it is told, run inside a namespace by the tests beside it.
 * Its setup is the first argument (JSON); it prints one JSON line for each thing that happened, logs to standard error,
 * and obeys one JSON command a line on standard input.
 */
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { SourceCheck } from '../../../src/backend/backend.js';
import { backendOfType } from '../../../src/backend/registry.js';
import type { OffloadName } from '../../../src/dataplane/offloads.js';
import { errorMessage } from '../../../src/errors.js';
import type { Logger } from '../../../src/log.js';
import type { Lease } from '../../../src/subnet/lease.js';
import type { NetworkConfig } from '../../../src/subnet/network-config.js';
import { ip, prefix } from '../../support/addresses.js';

export interface StaticLease {
  readonly subnet: string;
  readonly publicIp: string;
}

export interface StaticNodeSetup {
  readonly networkId: string;
  readonly network: string;
  readonly port: number;
  readonly interfaceName: string;
  readonly own: StaticLease;
  /** The address of the interface, where it is not the public one. */
  readonly externalAddress?: string;
  readonly peers: readonly StaticLease[];
  readonly sourceCheck: SourceCheck;
  readonly trustedSources: readonly string[];
  readonly workers?: number;
  readonly disabledOffloads?: readonly OffloadName[];
}

export type StaticNodeCommand =
  | { readonly command: 'status' }
  | { readonly command: 'stop' }
  | { readonly command: 'leases'; readonly leases: readonly StaticLease[] };

function say(event: string, value: unknown): void {
  process.stdout.write(`${JSON.stringify({ event, value })}\n`);
}

function leaseOf({ subnet, publicIp }: StaticLease): Lease {
  return { subnet: prefix(subnet), publicIp: ip(publicIp), publicIpv6: null, backendType: '', reserved: false };
}

function line(level: string): (message: string) => void {
  return (message) => void process.stderr.write(`${level} ${message}\n`);
}

const logger: Logger = { debug: line('debug'), info: line('info'), warn: line('warn'), error: line('error') };

async function main(setup: StaticNodeSetup): Promise<void> {
  const network = prefix(setup.network);
  const config: NetworkConfig = {
    network,
    subnetLength: 24,
    subnetMin: network.address + 256,
    subnetMax: network.address + 2 ** (32 - network.length) - 256,
    enableIpv4: true,
    enableIpv6: false,
    enableNftables: false,
    backend: { type: 'udp', port: setup.port },
  };
  const sysfs = (name: string): number => Number(readFileSync(`/sys/class/net/${setup.interfaceName}/${name}`, 'utf8'));
  const external = {
    name: setup.interfaceName,
    index: sysfs('ifindex'),
    mtuBytes: sysfs('mtu'),
    address: ip(setup.externalAddress ?? setup.own.publicIp),
  };
  const backend = await backendOfType('udp');
  backend.validate(config, external);
  const running = await backend.start({
    config,
    external,
    publicIp: ip(setup.own.publicIp),
    lease: leaseOf(setup.own),
    leases: [setup.own, ...setup.peers].map(leaseOf),
    networkId: setup.networkId,
    sourceCheck: setup.sourceCheck,
    trustedSources: setup.trustedSources.map(prefix),
    workers: setup.workers,
    disabledOffloads: setup.disabledOffloads,
    logger,
  });
  running.failed.catch((error: unknown) => {
    say('failed', errorMessage(error));
    process.exitCode = 1;
  });
  say('ready', { device: running.deviceName, mtuBytes: running.mtuBytes });
  const lines = createInterface({ input: process.stdin });
  process.once('SIGTERM', () => lines.close());
  for await (const text of lines) {
    const command = JSON.parse(text) as StaticNodeCommand;
    switch (command.command) {
      case 'status':
        say('status', running.status());
        break;
      case 'leases':
        running.setLeases(command.leases.map(leaseOf));
        say('leases', null);
        break;
      case 'stop':
        lines.close();
        break;
    }
  }
  await running.stop();
  process.stdin.destroy();
  say('stopped', null);
}

main(JSON.parse(process.argv[2]) as StaticNodeSetup).catch((error: unknown) => {
  say('failed', errorMessage(error));
  process.exitCode = 1;
});
