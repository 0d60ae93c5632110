/**
 * A node without a control plane, for the tests beside this: run inside a namespace, it opens device and socket, fills a
 * table from its argument, and carries packets. It obeys lines on its standard input and answers each with one line of
 * JSON. Argument: {@link BareNodeConfig} as JSON.
 */
import { createInterface } from 'node:readline';
import { Dataplane } from '../../../src/dataplane/dataplane.js';
import type { SourceCheck } from '../../../src/dataplane/decap.js';
import { dropReasonName } from '../../../src/dataplane/drop-reasons.js';
import { ForwardingTable } from '../../../src/dataplane/forwarding-table.js';
import { closeFd, openTun, openUdp, setTunPersistent } from '../../../src/dataplane/native.js';
import { OffloadLadder, type OffloadName } from '../../../src/dataplane/offloads.js';
import { probeTunOffloads, probeUdpOffloads } from '../../../src/dataplane/probe-offloads.js';
import { errorMessage } from '../../../src/errors.js';
import { runCommand } from '../../../src/host/command.js';
import { localAddresses } from '../../../src/host/local-addresses.js';
import { silentLogger } from '../../../src/log.js';
import { formatIpv4 } from '../../../src/packet/address.js';
import { ip, prefix } from '../../support/addresses.js';

export interface BareNodeConfig {
  readonly network: string;
  readonly subnet: string;
  readonly externalAddress: string;
  readonly mtuBytes: number;
  /** Subnet and PublicIP. */
  readonly leases: readonly (readonly [string, string])[];
  readonly trustedSources?: readonly string[];
  readonly sourceCheck?: SourceCheck;
  readonly workers?: number;
  readonly persistent?: boolean;
  readonly disabledOffloads?: readonly OffloadName[];
}

/** What the slow path was given, in words. */
export interface SlowPathNote {
  readonly reason: string;
  readonly bytes: number;
  readonly sender: string;
  readonly innerMtuBytes: number;
  readonly ttl: number;
}

const PORT = 8285;

const config = JSON.parse(process.argv[2]) as BareNodeConfig;
const slowPath: SlowPathNote[] = [];
const workers = config.workers ?? 1;
const subnet = prefix(config.subnet);
const table = ForwardingTable.create({
  network: prefix(config.network),
  subnetLength: subnet.length,
  trustedSources: config.trustedSources?.map(prefix),
});
table.setOwn(subnet);
for (const [leased, publicIp] of config.leases) table.set(prefix(leased), ip(publicIp), PORT);

const offloads = new OffloadLadder(config.disabledOffloads);
const tun = openTun({ name: 'flannel0', queues: workers, virtio: offloads.wants('tun-vnet') });
probeTunOffloads(tun, workers, offloads);
if (config.persistent === true) setTunPersistent(tun.fds[0], true);
await runCommand('ip', ['address', 'replace', `${formatIpv4(subnet.address)}/32`, 'dev', tun.name]);
await runCommand('ip', ['link', 'set', tun.name, 'mtu', String(config.mtuBytes), 'up']);
await runCommand('ip', ['route', 'replace', config.network, 'dev', tun.name]);
table.setOwnAddresses(await localAddresses());

const externalAddress = ip(config.externalAddress);
const sockets = openUdp({ address: externalAddress, port: PORT, sockets: workers });
probeUdpOffloads(sockets, offloads);
const dataplane = await Dataplane.start({
  table,
  sourceCheck: config.sourceCheck ?? 'strict',
  tunFds: tun.fds,
  socketFds: sockets,
  offloads,
  externalAddress,
  onSlowPath: ({ reason, packet, senderAddress, innerMtuBytes }) =>
    slowPath.push({
      reason: dropReasonName(reason),
      bytes: packet.length,
      sender: formatIpv4(senderAddress),
      innerMtuBytes,
      ttl: packet[8] ?? 0,
    }),
  logger: silentLogger,
});
dataplane.failed.catch((error: unknown) => answer({ failed: errorMessage(error) }));
answer({ started: tun.name });

commands: for await (const line of createInterface({ input: process.stdin })) {
  switch (line) {
    case 'status':
      answer({
        ...dataplane.counters(),
        workers: dataplane.workerStatus(),
        offloads: offloads.status(),
        slowPath: slowPath.splice(0),
      });
      break;
    case 'park':
      await dataplane.park();
      answer({ parked: true });
      break;
    case 'resume':
      await dataplane.resume();
      answer({ resumed: true });
      break;
    case 'stop':
      await dataplane.stop();
      [...tun.fds, ...sockets].forEach(closeFd);
      answer({ stopped: true });
      break commands;
    case 'exit':
      process.exit(7);
      break;
    default:
      answer({ unknown: line });
  }
}

process.stdin.destroy();

function answer(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
