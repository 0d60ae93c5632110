import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { CheckResult } from '../../../src/debug/doctor/check.js';
import { CHECKS, examine } from '../../../src/debug/doctor/doctor.js';
import type { NodeFacts } from '../../../src/debug/doctor/facts.js';
import { sumSocketDrops } from '../../../src/host/queue-drops.js';
import { parseIptablesRuleset } from '../../../src/host/firewall/iptables-ruleset.js';
import type { ConcernAnswer } from '../../../src/observe/control-protocol.js';
import { ip, prefix } from '../../support/addresses.js';
import {
  backend,
  filter,
  HEALTHY,
  known,
  lease,
  link,
  LINKS,
  links,
  NAT,
  NOW,
  peer,
  QUEUES,
  route,
  ROUTES,
  server,
  SILENCE,
  status,
  STATUS,
  STORE,
  unknown,
} from './healthy-node.js';

const LOST: ConcernAnswer = {
  id: 'lost-subnet',
  since: '2026-03-01T11:00:00.000Z',
  message: 'subnet 10.5.7.0/24 is lost',
  remedy: 'make the bridge anew',
};

interface Case {
  readonly what: string;
  readonly facts: Partial<NodeFacts>;
  readonly id: string;
  readonly status: CheckResult['status'];
  readonly says: RegExp;
}

const CASES: readonly Case[] = [
  {
    what: 'no agent',
    facts: { status: unknown('no flanneld at /x') },
    id: 'agent',
    status: 'fail',
    says: /no flanneld at \/x/,
  },
  {
    what: 'an agent that waits',
    facts: status({ state: 'lease', reason: 'out of subnets' }),
    id: 'agent',
    status: 'fail',
    says: /not ready \(lease\): out of subnets/,
  },
  {
    what: 'a failed worker',
    facts: backend({ workers: [{ name: 'decap-0', state: 'failed' }] }),
    id: 'agent',
    status: 'fail',
    says: /decap-0 failed/,
  },
  {
    what: 'a worker that fails again and again',
    facts: status({ concerns: [{ ...LOST, id: 'packet-workers', message: 'packet worker encap-0 failed' }] }),
    id: 'agent',
    status: 'warn',
    says: /packet worker encap-0 failed/,
  },
  {
    what: 'a lost lease',
    facts: status({ state: 'lease', lease: undefined, reason: 'subnet 10.5.1.0/24 is lost: 192.0.2.9 has it' }),
    id: 'lease',
    status: 'fail',
    says: /is lost/,
  },
  {
    what: 'a lease that ends soon',
    facts: { nowMs: Date.parse('2026-03-02T08:45:00.000Z') },
    id: 'lease',
    status: 'warn',
    says: /ends in 15 min/,
  },
  {
    what: 'a lease that has ended',
    facts: { nowMs: Date.parse('2026-03-02T09:00:01.000Z') },
    id: 'lease',
    status: 'fail',
    says: /ran out/,
  },
  {
    what: 'a reservation',
    facts: status({ lease: { ...lease('10.5.1.0/24', '192.0.2.1', true), reserved: true, expires: null } }),
    id: 'lease',
    status: 'ok',
    says: /reserved/,
  },
  {
    what: 'this public IP twice',
    facts: { leases: known([lease('10.5.1.0/24', '192.0.2.1', true), lease('10.5.9.0/24', '192.0.2.1')]) },
    id: 'public-ip',
    status: 'fail',
    says: /192\.0\.2\.1 stands in 2 leases/,
  },
  {
    what: "others' public IP twice",
    facts: { leases: known([lease('10.5.8.0/24', '192.0.2.7'), lease('10.5.9.0/24', '192.0.2.7')]) },
    id: 'public-ip',
    status: 'warn',
    says: /1 public IP/,
  },
  {
    what: 'a public IP inside the Network',
    facts: { leases: known([lease('10.5.8.0/24', '10.5.8.9'), lease('10.5.9.0/24', '192.0.2.7')]) },
    id: 'public-ip',
    status: 'warn',
    says: /1 public IPs lie inside the Network/,
  },
  {
    what: 'no device',
    facts: { interfaces: known([LINKS[0]]) },
    id: 'device',
    status: 'fail',
    says: /no device flannel0/,
  },
  {
    what: 'a device that is down',
    facts: links({ ...LINKS[1], up: false }),
    id: 'device',
    status: 'fail',
    says: /is down/,
  },
  {
    what: 'a device that nobody holds',
    facts: links({ ...LINKS[1], carrier: false }),
    id: 'device',
    status: 'fail',
    says: /no carrier/,
  },
  {
    what: 'a device without its address',
    facts: links(link('flannel0', 1472)),
    id: 'device',
    status: 'warn',
    says: /lacks its address 10\.5\.1\.0/,
  },
  {
    what: 'an underlay that became narrower',
    facts: links(link('eth0', 1400, '192.0.2.1')),
    id: 'mtu',
    status: 'fail',
    says: /1472 do not fit: eth0 has 1400, less 28 .* is 1372/,
  },
  {
    what: 'an overlay MTU that somebody changed',
    facts: links(link('flannel0', 1300, '10.5.1.0')),
    id: 'mtu',
    status: 'warn',
    says: /1300 instead of 1472/,
  },
  {
    what: 'a bridge that is too wide',
    facts: links(link('cni0', 1500, '10.5.1.1')),
    id: 'mtu',
    status: 'warn',
    says: /cni0 has 1500/,
  },
  {
    what: 'no route to the Network',
    facts: { routes: known([ROUTES[0]]) },
    id: 'routes',
    status: 'fail',
    says: /no route leads to 10\.5\.0\.0\/16/,
  },
  {
    what: 'a route to the Network elsewhere',
    facts: { routes: known([route('10.5.0.0/16', 'tun1')]) },
    id: 'routes',
    status: 'fail',
    says: /leads to tun1/,
  },
  {
    what: 'a stolen part of the Network',
    facts: { routes: known([...ROUTES, route('10.5.2.0/24', 'docker0')]) },
    id: 'routes',
    status: 'fail',
    says: /take parts/,
  },
  {
    what: 'policy rules',
    facts: { policyRules: known([{ priority: 100, text: 'fwmark 0x1 table vpn' }]) },
    id: 'routes',
    status: 'warn',
    says: /policy rules/,
  },
  {
    what: 'a subnet that went to another node, and a bridge that still has it',
    facts: { ...status({ concerns: [LOST] }), ...links(link('cni0', 1472, '10.5.7.1')) },
    id: 'lost-subnet',
    status: 'fail',
    says: /10\.5\.7\.0\/24 is lost/,
  },
  {
    what: 'a subnet that went to another node, and nothing that has it',
    facts: status({ concerns: [LOST] }),
    id: 'lost-subnet',
    status: 'ok',
    says: /no device here has the old one's addresses/,
  },
  {
    what: 'a configuration that was changed',
    facts: status({ concerns: [{ ...LOST, id: 'configuration', message: 'it differs in Network' }] }),
    id: 'configuration',
    status: 'warn',
    says: /differs in Network/,
  },
  {
    what: 'a configuration that may have been changed since the store was last heard',
    facts: status({ store: { ...STATUS.store, healthy: false } }),
    id: 'configuration',
    status: 'skip',
    says: /the store does not answer/,
  },
  {
    what: 'another machine with this public IP',
    facts: status({ concerns: [{ ...LOST, id: 'public-ip', message: 'another machine has 192.0.2.1' }] }),
    id: 'public-ip',
    status: 'fail',
    says: /another machine has 192\.0\.2\.1/,
  },
  {
    what: 'a bridge of an earlier subnet',
    facts: links(link('cni0', 1472, '10.5.7.1')),
    id: 'bridge',
    status: 'fail',
    says: /cni0 has 10\.5\.7\.1, outside/,
  },
  {
    what: 'no bridge yet',
    facts: { interfaces: known(LINKS.slice(0, 2)) },
    id: 'bridge',
    status: 'ok',
    says: /no pod bridge/,
  },
  {
    what: 'a stale subnet.env',
    facts: { subnetFile: known({ network: prefix('10.5.0.0/16'), subnet: prefix('10.5.7.0/24'), mtuBytes: 1450 }) },
    id: 'subnet-file',
    status: 'fail',
    says: /FLANNEL_SUBNET is 10\.5\.7\.0\/24, should be 10\.5\.1\.0\/24; FLANNEL_MTU is 1450/,
  },
  {
    what: 'no subnet.env',
    facts: { subnetFile: known({}) },
    id: 'subnet-file',
    status: 'fail',
    says: /FLANNEL_SUBNET is missing/,
  },
  {
    what: 'no forwarding',
    facts: { forwarding: known(false) },
    id: 'forwarding',
    status: 'fail',
    says: /does not forward/,
  },
  {
    what: 'strict reverse path filtering',
    facts: { reversePathFilters: known(new Map([['flannel0', 1]])) },
    id: 'rp-filter',
    status: 'warn',
    says: /strict on flannel0/,
  },
  {
    what: 'a rule against the tunnel',
    facts: { filterRules: filter('-A INPUT -p udp --dport 8285 -j DROP') },
    id: 'firewall-tunnel',
    status: 'fail',
    says: /eats UDP 8285: `-p udp --dport 8285 -j DROP`/,
  },
  {
    what: 'a rule against what leaves',
    facts: { filterRules: filter('-A OUTPUT -d 192.0.2.2/32 -j REJECT') },
    id: 'firewall-tunnel',
    status: 'fail',
    says: /-d 192\.0\.2\.2\/32/,
  },
  {
    what: 'a rule that may be against the tunnel',
    facts: { filterRules: filter('-A INPUT -m set --match-set bad src -j DROP') },
    id: 'firewall-tunnel',
    status: 'warn',
    says: /perhaps/,
  },
  {
    what: 'a rule against pods',
    facts: { filterRules: filter('-A FORWARD -i flannel0 -j DROP') },
    id: 'firewall-forward',
    status: 'fail',
    says: /forwarded packets: `-i flannel0 -j DROP`/,
  },
  {
    what: 'no masquerading',
    facts: { filterRules: known([]) },
    id: 'masquerade',
    status: 'fail',
    says: /nothing masquerades/,
  },
  {
    what: 'masquerading between pods',
    facts: { filterRules: known(parseIptablesRuleset(NAT.filter((line) => !line.includes('RETURN')).join('\n'))) },
    id: 'masquerade',
    status: 'warn',
    says: /instead of the pod/,
  },
  {
    what: 'a node that is gone',
    facts: peer({ underlay: SILENCE, large: SILENCE, tunnel: SILENCE, port: 'silence', burst: undefined }),
    id: 'peers',
    status: 'fail',
    says: /no other node answers/,
  },
  {
    what: 'a filtered tunnel',
    facts: peer({ tunnel: SILENCE, port: 'silence' }),
    id: 'tunnel',
    status: 'fail',
    says: /is filtered between here and 192\.0\.2\.2/,
  },
  {
    what: 'a tunnel that is rejected',
    facts: peer({ tunnel: SILENCE, port: 'unreachable' }),
    id: 'tunnel',
    status: 'fail',
    says: /says so with ICMP/,
  },
  {
    what: 'a node without a daemon',
    facts: peer({ tunnel: SILENCE, port: 'refused' }),
    id: 'tunnel',
    status: 'fail',
    says: /no flanneld listens at 192\.0\.2\.2/,
  },
  {
    what: 'a node that drops echo requests but not the tunnel',
    facts: peer({ underlay: SILENCE, large: SILENCE, burst: undefined, tunnel: { kind: 'time-exceeded', from: 1 } }),
    id: 'peers',
    status: 'ok',
    says: /every other node answers/,
  },
  {
    what: 'a narrow path',
    facts: peer({ large: SILENCE, burst: undefined, pathMtuBytes: 1400 }),
    id: 'path-mtu',
    status: 'fail',
    says: /only 1400 bytes fit, not 1500/,
  },
  {
    what: 'a lossy path',
    facts: peer({ burst: { sent: 20, answered: 9 } }),
    id: 'path-loss',
    status: 'warn',
    says: /get lost on the way to 192\.0\.2\.2/,
  },
  {
    what: 'no etcd',
    facts: { store: known({ ...STORE, readMs: unknown('connection refused') }) },
    id: 'etcd',
    status: 'fail',
    says: /connection refused/,
  },
  {
    what: 'a slow etcd',
    facts: { store: known({ ...STORE, readMs: known(1200) }) },
    id: 'etcd',
    status: 'warn',
    says: /1200 ms/,
  },
  {
    what: 'a sick server',
    facts: server({ health: known({ healthy: false, reason: 'NOSPACE' }) }),
    id: 'etcd',
    status: 'warn',
    says: /not every server is well/,
  },
  {
    what: "flannel's old default endpoint",
    facts: server({ endpoint: 'http://127.0.0.1:4001', health: unknown('refused') }),
    id: 'etcd',
    status: 'ok',
    says: /healthy/,
  },
  {
    what: 'a clock that is wrong',
    facts: server({ clock: known({ aheadSeconds: -300, uncertaintySeconds: 0.5 }) }),
    id: 'clock',
    status: 'warn',
    says: /300 s behind/,
  },
  {
    what: 'a clock within what can be told',
    facts: server({ clock: known({ aheadSeconds: 6, uncertaintySeconds: 3 }) }),
    id: 'clock',
    status: 'ok',
    says: /agree/,
  },
  {
    what: 'a server that does not tell the time',
    facts: server({ clock: unknown('no date') }),
    id: 'clock',
    status: 'skip',
    says: /no date/,
  },
  {
    what: 'an offload that was given up',
    facts: backend({ offloads: [{ name: 'udp-segment', state: 'off', reason: 'EIO', stepDowns: 1 }] }),
    id: 'offloads',
    status: 'warn',
    says: /udp-segment \(1 times\)/,
  },
  {
    what: 'offloads in use',
    facts: backend({ offloads: [{ name: 'udp-gro', state: 'on', stepDowns: 0 }] }),
    id: 'offloads',
    status: 'ok',
    says: /in use: udp-gro/,
  },
  {
    what: 'an overrun just now',
    facts: { queues: known({ ...QUEUES, dropsWhileLooking: 4 }) },
    id: 'buffers',
    status: 'fail',
    says: /4 packets found no room/,
  },
  {
    what: 'many overruns',
    facts: { queues: known({ ...QUEUES, socketDrops: 20_000 }) },
    id: 'buffers',
    status: 'warn',
    says: /one packet in 1,000/,
  },
  {
    what: 'an overrun long ago',
    facts: { queues: known({ ...QUEUES, socketDrops: 3 }) },
    id: 'buffers',
    status: 'ok',
    says: /next to none/,
  },
];

describe('doctor', () => {
  test('finds nothing at a healthy node', () => {
    assert.deepEqual(
      examine(HEALTHY).filter(({ status: is }) => is !== 'ok'),
      [],
    );
  });

  for (const { what, facts, id, status: expected, says } of CASES) {
    test(`${id}: ${what}`, () => {
      const checks = examine({ ...HEALTHY, ...facts });
      const check = checks.find((one) => one.id === id) ?? assert.fail(id);
      assert.equal(check.status, expected, check.summary);
      assert.match(check.summary, says);
      assert.equal(check.remedy !== null, expected === 'warn' || expected === 'fail');
    });
  }

  test('a lost subnet that the bridge still has is told by one check, with one remedy', () => {
    const checks = examine({
      ...HEALTHY,
      ...status({ concerns: [LOST] }),
      ...links(link('cni0', 1472, '10.5.7.1')),
      routes: known([...ROUTES.slice(0, 2), route('10.5.7.0/24', 'cni0')]),
    });
    const remedies = checks.filter(({ remedy }) => remedy !== null).map(({ id, remedy }) => [id, remedy]);
    assert.deepEqual(remedies, [['lost-subnet', LOST.remedy]]);
    const routes = checks.find(({ id }) => id === 'routes') ?? assert.fail();
    assert.match(routes.summary, /less what goes with addresses that the check "lost-subnet" tells of/);
  });

  test('a route that goes with an address is left to the check of addresses, another one is not', () => {
    const facts = {
      ...HEALTHY,
      ...links(link('cni0', 1472, '10.5.7.1')),
      routes: known([...ROUTES.slice(0, 2), route('10.5.7.0/24', 'cni0'), route('10.5.8.0/24', 'cni0')]),
    };
    const bad = examine(facts).filter(({ remedy }) => remedy !== null);
    assert.deepEqual(
      bad.map(({ id }) => id),
      ['routes', 'bridge'],
    );
    assert.deepEqual(bad[0].evidence, ['10.5.8.0/24 dev cni0']);
  });

  test('every check can fail or warn, and each has a case', () => {
    const bad = new Set(CASES.filter(({ status: is }) => is === 'fail' || is === 'warn').map(({ id }) => id));
    assert.deepEqual([...bad].sort(), Object.keys(CHECKS).sort());
  });

  test('nothing that is not known is taken for well or broken, but the agent and etcd themselves', () => {
    const why = unknown('it was not found out');
    const nothing: NodeFacts = {
      ...{ nowMs: NOW, status: why, leases: why, interfaces: why, routes: why, policyRules: why, filterRules: why },
      ...{ subnetFile: why, forwarding: why, reversePathFilters: why, queues: why, peers: why, store: why },
    };
    for (const { id, status: is } of examine(nothing)) {
      assert.equal(is, ['agent', 'etcd'].includes(id) ? 'fail' : 'skip', id);
    }
  });
});

test(
  'the drops of a socket are read from /proc/net/udp',
  { skip: new Uint8Array(Uint16Array.of(1).buffer)[0] === 0 },
  () => {
    const text = [
      '   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops',
      '15095: 0B40A8C0:205D 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 757323 2 00000000f9e74676 17',
      '15096: 0B40A8C0:205D 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 757324 2 00000000f9e74677 3',
      '15097: 0100007F:205D 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 757325 2 00000000f9e74678 99',
      '',
    ].join('\n');
    assert.equal(sumSocketDrops(text, ip('192.168.64.11'), 8285), 20);
  },
);
