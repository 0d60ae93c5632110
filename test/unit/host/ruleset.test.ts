import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseIptablesRuleset } from '../../../src/host/firewall/iptables-ruleset.js';
import { parseNftRuleset } from '../../../src/host/firewall/nftables-ruleset.js';
import { filterAt, type FilterPacket, type Hook } from '../../../src/host/firewall/ruleset.js';
import { ip } from '../../support/addresses.js';

const pod: FilterPacket = {
  source: ip('10.5.1.2'),
  destination: ip('10.5.2.3'),
  protocol: 6,
  destinationPort: 80,
  inDevice: 'cni0',
  outDevice: 'flannel0',
};
const tunnel: FilterPacket = {
  source: ip('192.0.2.2'),
  destination: ip('192.0.2.1'),
  protocol: 17,
  sourcePort: 8285,
  destinationPort: 8285,
  inDevice: 'eth0',
};

interface Case {
  readonly name: string;
  readonly rules: string;
  readonly hook: Hook;
  readonly packet: FilterPacket;
  readonly verdict: 'pass' | 'drop' | 'maybe-drop';
  readonly touches?: readonly string[];
}

const filter = (...rules: string[]): string =>
  ['*filter', ':INPUT ACCEPT [0:0]', ':FORWARD ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]', ...rules, 'COMMIT'].join('\n');

const IPTABLES: readonly Case[] = [
  { name: 'no rules', rules: filter(), hook: 'input', packet: tunnel, verdict: 'pass', touches: [] },
  {
    name: 'a drop by port',
    rules: filter('-A INPUT -p udp -m udp --dport 8285 -j DROP'),
    hook: 'input',
    packet: tunnel,
    verdict: 'drop',
    touches: ['drop certain'],
  },
  {
    name: 'a drop by another port',
    rules: filter('-A INPUT -p udp -m udp --dport 8472 -j DROP'),
    hook: 'input',
    packet: tunnel,
    verdict: 'pass',
  },
  {
    name: 'a range of ports, and a negation',
    rules: filter(
      '-A INPUT ! -s 192.0.2.9/32 -p udp -m multiport --dports 53,8000:9000 -j REJECT --reject-with icmp-port-unreachable',
    ),
    hook: 'input',
    packet: tunnel,
    verdict: 'drop',
    touches: ['reject certain'],
  },
  {
    name: 'an accept before the drop',
    rules: filter('-A INPUT -i eth+ -j ACCEPT', '-A INPUT -j DROP'),
    hook: 'input',
    packet: tunnel,
    verdict: 'pass',
    touches: ['accept certain'],
  },
  {
    name: 'replies only',
    rules: filter('-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT', '-A INPUT -j DROP'),
    hook: 'input',
    packet: tunnel,
    verdict: 'drop',
  },
  {
    name: 'a rate that nobody knows',
    rules: filter('-A INPUT -p udp -m limit --limit 10/sec -j ACCEPT', '-A INPUT -j DROP'),
    hook: 'input',
    packet: tunnel,
    verdict: 'maybe-drop',
    touches: ['accept unsure', 'drop unsure'],
  },
  {
    name: 'a drop that nobody knows',
    rules: filter('-A INPUT -m set --match-set bad src -j DROP'),
    hook: 'input',
    packet: tunnel,
    verdict: 'maybe-drop',
    touches: ['drop unsure'],
  },
  {
    name: 'the policy',
    rules: filter().replace(':FORWARD ACCEPT', ':FORWARD DROP'),
    hook: 'forward',
    packet: pod,
    verdict: 'drop',
    touches: ['drop certain'],
  },
  {
    name: "flannel's own chain against the policy",
    rules: [
      '*filter',
      ':FORWARD DROP [0:0]',
      ':FLANNEL-FWD - [0:0]',
      '-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD',
      '-A FLANNEL-FWD -s 10.5.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT',
      'COMMIT',
    ].join('\n'),
    hook: 'forward',
    packet: pod,
    verdict: 'pass',
    touches: ['accept certain'],
  },
  {
    name: 'masquerading passes pods by',
    rules: [
      '*nat',
      ':POSTROUTING ACCEPT [0:0]',
      ':FLANNEL-POSTRTG - [0:0]',
      '-A POSTROUTING -j FLANNEL-POSTRTG',
      '-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -j RETURN',
      '-A FLANNEL-POSTRTG -s 10.5.1.0/24 -d 10.5.0.0/16 -j RETURN',
      '-A FLANNEL-POSTRTG -s 10.5.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE --random-fully',
      'COMMIT',
    ].join('\n'),
    hook: 'postrouting',
    packet: pod,
    verdict: 'pass',
    touches: [],
  },
  {
    name: 'masquerading takes what leaves the network',
    rules: [
      '*nat',
      ':POSTROUTING ACCEPT [0:0]',
      '-A POSTROUTING -s 10.5.0.0/16 ! -d 10.5.0.0/16 -j MASQUERADE',
      'COMMIT',
    ].join('\n'),
    hook: 'postrouting',
    packet: { ...pod, destination: ip('203.0.113.9'), outDevice: 'eth0' },
    verdict: 'pass',
    touches: ['masquerade certain'],
  },
];

describe('the rules of iptables', () => {
  for (const { name, rules, hook, packet, verdict, touches } of IPTABLES) {
    test(name, () => {
      const outcome = filterAt(parseIptablesRuleset(rules), hook, packet);
      assert.equal(outcome.verdict, verdict);
      if (touches === undefined) return;
      assert.deepEqual(
        outcome.touches.map(({ does, certain }) => `${does} ${certain ? 'certain' : 'unsure'}`),
        touches,
      );
    });
  }
});

const chain = { family: 'inet', table: 'fw', name: 'in', type: 'filter', hook: 'input', prio: 0, policy: 'accept' };
const nft = (...rules: object[][]): string =>
  JSON.stringify({
    nftables: [
      { metainfo: { version: '1.0.6' } },
      { chain },
      ...rules.map((expr) => ({ rule: { family: 'inet', table: 'fw', chain: 'in', expr } })),
    ],
  });
const match = (left: object, right: unknown, op = '=='): object => ({ match: { op, left, right } });
const dport = { payload: { protocol: 'udp', field: 'dport' } };

describe('the rules of nft', () => {
  const cases: readonly { name: string; rules: string; verdict: string }[] = [
    { name: 'a port', rules: nft([match(dport, 8285), { counter: {} }, { drop: null }]), verdict: 'drop' },
    { name: 'another port', rules: nft([match(dport, 53), { drop: null }]), verdict: 'pass' },
    {
      name: 'a set of ports',
      rules: nft([match(dport, { set: [53, { range: [8000, 9000] }] }), { drop: null }]),
      verdict: 'drop',
    },
    { name: 'a named set', rules: nft([match(dport, '@ports'), { drop: null }]), verdict: 'maybe-drop' },
    {
      name: 'an address and a device, negated',
      rules: nft([
        match({ payload: { protocol: 'ip', field: 'saddr' } }, { prefix: { addr: '10.0.0.0', len: 8 } }, '!='),
        match({ meta: { key: 'iifname' } }, 'eth0'),
        { reject: {} },
      ]),
      verdict: 'drop',
    },
    {
      name: 'established connections only',
      rules: nft(
        [match({ ct: { key: 'state' } }, ['established', 'related'], 'in'), { accept: null }],
        [{ drop: null }],
      ),
      verdict: 'drop',
    },
    {
      name: 'a map of verdicts before the last rule',
      rules: nft([{ vmap: { key: { ct: { key: 'state' } }, data: { set: [] } } }], [{ drop: null }]),
      verdict: 'maybe-drop',
    },
    {
      name: 'what is not known here',
      rules: nft([{ limit: { rate: 5, per: 'second' } }, { drop: null }]),
      verdict: 'maybe-drop',
    },
  ];
  for (const { name, rules, verdict } of cases) {
    test(name, () => assert.equal(filterAt(parseNftRuleset(rules, true), 'input', tunnel).verdict, verdict));
  }

  test('tables of iptables-nft are left out when iptables tells of them', () => {
    const text = JSON.stringify({ nftables: [{ chain: { ...chain, family: 'ip', table: 'filter' } }] });
    assert.equal(parseNftRuleset(text, true).length, 0);
    assert.equal(parseNftRuleset(text, false).length, 1);
  });
});
