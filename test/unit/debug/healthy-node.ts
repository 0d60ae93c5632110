/** All that the doctor finds at a node that is well, and ways to change a part of it. */
import assert from 'node:assert/strict';
import type { Fact } from '../../../src/debug/doctor/check.js';
import type { NodeFacts, QueueFacts } from '../../../src/debug/doctor/facts.js';
import type { PeerFacts } from '../../../src/debug/doctor/probe-peers.js';
import type { StoreFacts } from '../../../src/debug/doctor/probe-store.js';
import { parseIptablesRuleset } from '../../../src/host/firewall/iptables-ruleset.js';
import type { HostInterface } from '../../../src/host/interfaces.js';
import type { Route } from '../../../src/host/routes.js';
import type { LeaseAnswer, StatusAnswer } from '../../../src/observe/control-protocol.js';
import { backendStatus, workerStatus } from '../../support/backend-status.js';
import { ip, prefix } from '../../support/addresses.js';

export const known = <T>(value: T): Fact<T> => ({ known: true, value });
export const unknown = (why: string): Fact<never> => ({ known: false, why });

export const NOW = Date.parse('2026-03-01T12:00:00.000Z');

export function lease(subnet: string, publicIP: string, own = false): LeaseAnswer {
  const expires = own ? '2026-03-02T09:00:00.000Z' : null;
  return { subnet, publicIP, reserved: false, expires, backendType: 'udp', own };
}

export const STATUS: StatusAnswer = {
  version: '0.1.0',
  pid: 812,
  startedAt: '2026-03-01T09:00:00.000Z',
  state: 'ready',
  network: { cidr: '10.5.0.0/16', subnetLength: 24, backend: 'udp' },
  lease: lease('10.5.1.0/24', '192.0.2.1', true),
  interface: { name: 'eth0', address: '192.0.2.1', mtu: 1500 },
  publicIP: '192.0.2.1',
  subnetFile: '/run/flannel/subnet.env',
  backend: backendStatus({
    workers: [workerStatus()],
    offloads: [{ name: 'udp-gro', state: 'on', stepDowns: 0 }],
    encap: { packets: 1_000_000, bytes: 1, dropped: {} },
    decap: { packets: 1_000_000, bytes: 1, dropped: {} },
  }),
  store: {
    endpoints: ['http://192.0.2.9:2379'],
    prefix: '/coreos.com/network',
    healthy: true,
    watchRestarts: 0,
    skippedEntries: 0,
  },
};

export function link(name: string, mtuBytes: number, ...addresses: string[]): HostInterface {
  return {
    ...({} as HostInterface),
    name,
    mtuBytes,
    up: true,
    carrier: true,
    addresses: addresses.map((address) => ({ address: ip(address), prefixLength: 24 })),
  };
}

export const LINKS = [
  link('eth0', 1500, '192.0.2.1'),
  link('flannel0', 1472, '10.5.1.0'),
  link('cni0', 1472, '10.5.1.1'),
];

export function route(destination: string, device: string, linkDown = false): Route {
  return { destination: prefix(destination), device, type: 'unicast', metric: 0, linkDown };
}

export const ROUTES = [route('0.0.0.0/0', 'eth0'), route('10.5.0.0/16', 'flannel0'), route('10.5.1.0/24', 'cni0')];

export const NAT = [
  '*nat',
  ':POSTROUTING ACCEPT [0:0]',
  '-A POSTROUTING -s 10.5.1.0/24 -d 10.5.0.0/16 -j RETURN',
  '-A POSTROUTING -s 10.5.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE',
  'COMMIT',
];
export const filter = (...rules: string[]): Fact<ReturnType<typeof parseIptablesRuleset>> =>
  known(
    parseIptablesRuleset(
      ['*filter', ':INPUT ACCEPT', ':FORWARD ACCEPT', ':OUTPUT ACCEPT', ...rules, 'COMMIT', ...NAT].join('\n'),
    ),
  );

const REPLY = { kind: 'reply', roundTripMs: 0.4 } as const;
export const SILENCE = { kind: 'silence' } as const;
const PEER: PeerFacts = {
  address: '192.0.2.2',
  subnet: '10.5.2.0/24',
  underlay: REPLY,
  large: REPLY,
  largeBytes: 1500,
  burst: { sent: 20, answered: 20 },
  tunnel: REPLY,
};
export const STORE: StoreFacts = {
  prefix: '/coreos.com/network',
  readMs: known(3),
  servers: [
    {
      endpoint: 'http://192.0.2.9:2379',
      health: known({ healthy: true }),
      clock: known({ aheadSeconds: 0.3, uncertaintySeconds: 0.5 }),
    },
  ],
};
export const QUEUES: QueueFacts = { socketDrops: 0, deviceDrops: 0, dropsWhileLooking: 0 };

export const HEALTHY: NodeFacts = {
  nowMs: NOW,
  status: known(STATUS),
  leases: known([lease('10.5.1.0/24', '192.0.2.1', true), lease('10.5.2.0/24', '192.0.2.2')]),
  interfaces: known(LINKS),
  routes: known(ROUTES),
  policyRules: known([]),
  filterRules: filter(),
  subnetFile: known({ network: prefix('10.5.0.0/16'), subnet: prefix('10.5.1.0/24'), mtuBytes: 1472, ipMasq: true }),
  forwarding: known(true),
  reversePathFilters: known(
    new Map([
      ['flannel0', 0],
      ['eth0', 2],
    ]),
  ),
  queues: known(QUEUES),
  peers: known([PEER]),
  store: known(STORE),
};

export const status = (change: Partial<StatusAnswer>): Pick<NodeFacts, 'status'> => ({
  status: known({ ...STATUS, ...change }),
});
export const backend = (change: object): Pick<NodeFacts, 'status'> =>
  status({ backend: { ...(STATUS.backend ?? assert.fail()), ...change } });
export const links = (...changed: HostInterface[]): Pick<NodeFacts, 'interfaces'> => {
  const names = changed.map(({ name }) => name);
  return { interfaces: known([...LINKS.filter(({ name }) => !names.includes(name)), ...changed]) };
};
export const peer = (change: Partial<PeerFacts>): Pick<NodeFacts, 'peers'> => ({
  peers: known([{ ...PEER, ...change }]),
});
export const server = (change: Partial<StoreFacts['servers'][number]>): Pick<NodeFacts, 'store'> => ({
  store: known({ ...STORE, servers: [{ ...STORE.servers[0], ...change }] }),
});
