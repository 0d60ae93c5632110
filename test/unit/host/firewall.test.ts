import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { formatRule, parseIptablesSave, parseRule, planTable } from '../../../src/host/firewall/iptables.js';
import { formatRule as formatNftRule, parseNftTable, planNftables } from '../../../src/host/firewall/nftables.js';
import { isIdle, planChain, type ChainPlan, type PresentRule } from '../../../src/host/firewall/plan.js';
import {
  CHAINS,
  forwardRules,
  isShared,
  masqueradeRules,
  NO_RULES,
  ruleNetwork,
  rulesEqual,
  type FirewallRule,
} from '../../../src/host/firewall/rules.js';
import { formatPrefix } from '../../../src/packet/address.js';
import { prefix } from '../../support/addresses.js';

const NETWORK = prefix('10.5.0.0/16');
const SUBNET = prefix('10.5.98.0/24');
const SIBLING = prefix('10.6.0.0/16');
const SIBLING_SUBNET = prefix('10.6.1.0/24');

/** What a flannel 0.26.7 left in `iptables-save` for this network and subnet. */
const FLANNEL_MASQUERADE = [
  '-m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN',
  '-s 10.5.98.0/24 -d 10.5.0.0/16 -m comment --comment "flanneld masq" -j RETURN',
  '-s 10.5.0.0/16 -d 10.5.98.0/24 -m comment --comment "flanneld masq" -j RETURN',
  '! -s 10.5.0.0/16 -d 10.5.98.0/24 -m comment --comment "flanneld masq" -j RETURN',
  '-s 10.5.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully',
  '! -s 10.5.0.0/16 -d 10.5.0.0/16 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully',
];
const FLANNEL_FORWARD = [
  '-s 10.5.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT',
  '-d 10.5.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT',
];

describe('rules', () => {
  test('are the ones of flannel, in its order', () => {
    const masquerade = masqueradeRules(NETWORK, SUBNET, true).map((rule) => formatRule(CHAINS.masquerade, rule));
    const forward = forwardRules(NETWORK).map((rule) => formatRule(CHAINS.forward, rule));
    assert.deepEqual(masquerade, FLANNEL_MASQUERADE);
    assert.deepEqual(forward, FLANNEL_FORWARD);
  });

  test('leave --random-fully out on request', () => {
    const rules = masqueradeRules(NETWORK, SUBNET, false).map((rule) => formatRule(CHAINS.masquerade, rule));
    assert.deepEqual(
      rules,
      FLANNEL_MASQUERADE.map((rule) => rule.replace(' --random-fully', '')),
    );
  });

  test('say the same in the language of nft', () => {
    assert.deepEqual(
      masqueradeRules(NETWORK, SUBNET, true).map((rule) => formatNftRule(CHAINS.masquerade, rule)),
      [
        'meta mark & 0x4000 == 0x4000 return comment "flanneld masq"',
        'ip saddr 10.5.98.0/24 ip daddr 10.5.0.0/16 return comment "flanneld masq"',
        'ip saddr 10.5.0.0/16 ip daddr 10.5.98.0/24 return comment "flanneld masq"',
        'ip saddr != 10.5.0.0/16 ip daddr 10.5.98.0/24 return comment "flanneld masq"',
        'ip saddr 10.5.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random comment "flanneld masq"',
        'ip saddr != 10.5.0.0/16 ip daddr 10.5.0.0/16 masquerade fully-random comment "flanneld masq"',
      ],
    );
  });

  for (const specification of FLANNEL_MASQUERADE.slice(1)) {
    test(`belong to the network they name: ${specification}`, () => {
      const rule = parseRule(CHAINS.masquerade, specification);
      assert.deepEqual(rule && ruleNetwork('masquerade', rule), NETWORK);
    });
  }

  const FOREIGN = [
    // What administrators put into flannel's chain to spare some destinations.
    '-s 10.5.0.0/16 -d 192.168.0.0/16 -j RETURN',
    '-s 10.5.0.0/16 -d 192.168.0.0/16 -m comment --comment "flanneld masq" -j RETURN',
    '-s 10.5.0.0/16 -d 10.5.0.0/16 -m comment --comment "flanneld masq" -j RETURN',
    '-s 10.5.98.0/24 -d 10.5.0.0/16 -m comment --comment "mine" -j RETURN',
    '-s 10.5.98.0/24 -d 10.5.0.0/16 -p tcp -m comment --comment "flanneld masq" -j RETURN',
    '-s 10.5.0.0/16 ! -d 224.0.0.0/4 -o eth0 -m comment --comment "flanneld masq" -j MASQUERADE',
    '-s 10.5.0.0/16 -m comment --comment "flanneld masq" -j SNAT --to-source 192.168.1.1',
    '-m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN',
    '-m mark ! --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN',
    '-m comment --comment "flanneld masq" -j RETURN',
    '',
  ];
  for (const specification of FOREIGN) {
    test(`belong to no network: ${specification || 'an empty rule'}`, () => {
      const rule = parseRule(CHAINS.masquerade, specification);
      assert.equal(rule && ruleNetwork('masquerade', rule), undefined);
    });
  }

  test('read back as they were written, whatever the network', () => {
    const addresses = fc.tuple(fc.nat(0xffffffff), fc.integer({ min: 8, max: 28 }), fc.boolean());
    fc.assert(
      fc.property(addresses, ([address, length, random]) => {
        const network = prefix(`${formatPrefix({ address, length: 32 }).split('/')[0]}/${length}`);
        for (const rule of masqueradeRules(network, { address: network.address, length: length + 2 }, random)) {
          const read = parseRule(CHAINS.masquerade, formatRule(CHAINS.masquerade, rule));
          assert.ok(read !== undefined && rulesEqual(read, rule));
          assert.deepEqual(ruleNetwork('masquerade', rule), isShared(rule) ? undefined : network);
        }
      }),
    );
  });
});

/** Carries a plan out on a list, as the kernel would. */
function carryOut(present: readonly PresentRule<number>[], plan: ChainPlan<number>): PresentRule<number>[] {
  let handle = 1_000;
  const fresh = (rule: FirewallRule): PresentRule<number> => ({ rule, handle: handle++ });
  const kept = present.filter((entry) => !plan.remove.includes(entry.handle));
  return [...plan.prepend.map(fresh), ...kept, ...plan.append.map(fresh)];
}

describe('plan', () => {
  const wanted = masqueradeRules(NETWORK, SUBNET, true);
  const old = masqueradeRules(NETWORK, prefix('10.5.7.0/24'), false);
  const sibling = masqueradeRules(SIBLING, SIBLING_SUBNET, true);
  const isOwn = ({ rule }: PresentRule<number>) =>
    rule !== undefined && formatPrefix(ruleNetwork('masquerade', rule) ?? SIBLING) === '10.5.0.0/16';

  test('from any state of the chain, ours end up complete and in order, others’ keep theirs, and nothing is left to do', () => {
    const anyRule = fc.constantFrom<(FirewallRule | undefined)[]>(...wanted, ...old, ...sibling, undefined);
    fc.assert(
      fc.property(fc.array(anyRule, { maxLength: 20 }), (rules) => {
        const before = rules.map((rule, handle): PresentRule<number> => ({ rule, handle }));
        const after = carryOut(before, planChain('masquerade', before, wanted, [NETWORK]));
        const own = after.filter(isOwn).map(({ rule }) => rule);
        assert.deepEqual(own, wanted.slice(1));
        const mark = after.findIndex(({ rule }) => rule !== undefined && rulesEqual(rule, wanted[0]));
        assert.ok(mark >= 0 && mark < after.findIndex(isOwn));
        assert.equal(after.filter(({ rule }) => rule && isShared(rule)).length, 1);
        const others = (entries: PresentRule<number>[]) =>
          entries.filter((entry) => !isOwn(entry) && !(entry.rule && isShared(entry.rule)));
        assert.deepEqual(others(after), others(before));
        assert.ok(isIdle(planChain('masquerade', after, wanted, [NETWORK])));

        const gone = planChain('masquerade', after, [], [NETWORK]);
        assert.equal(carryOut(after, gone).some(isOwn), false);
        assert.deepEqual(others(carryOut(after, gone)), others(before));
        assert.equal(gone.drop, others(before).length === 0);
      }),
    );
  });

  test('takes an earlier network’s rules out with the new ones’ arrival', () => {
    const before = sibling.map((rule, handle): PresentRule<number> => ({ rule, handle }));
    const plan = planChain('masquerade', before, wanted, [NETWORK, SIBLING]);
    assert.deepEqual(plan.remove, [1, 2, 3, 4, 5]);
    assert.deepEqual(plan.append, wanted.slice(1));
  });
});

describe('iptables', () => {
  const SAVED = `# Generated by iptables-save v1.8.9 (nf_tables) on Sat Nov 21 08:25:23 2026
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [12:720]
:FLANNEL-FWD - [0:0]
-A FORWARD -m comment --comment "a \\"quoted\\" remark" -j ACCEPT
-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
${FLANNEL_FORWARD.map((rule) => `-A FLANNEL-FWD ${rule}`).join('\n')}
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
${FLANNEL_MASQUERADE.map((rule) => `-A FLANNEL-POSTRTG ${rule}`).join('\n')}
COMMIT
`;

  test('has nothing to do where a flannel’s rules for the same subnet are in place', () => {
    const saved = parseIptablesSave(SAVED);
    assert.ok(planTable('masquerade', saved, masqueradeRules(NETWORK, SUBNET, true), [NETWORK]).idle);
    assert.ok(planTable('forward', saved, forwardRules(NETWORK), [NETWORK]).idle);
  });

  test('makes chain and jump where there are none, without emptying a chain made meanwhile', () => {
    const { input } = planTable('forward', parseIptablesSave(''), forwardRules(NETWORK), [NETWORK]);
    assert.equal(
      input,
      `*filter\n-N FLANNEL-FWD\n${FLANNEL_FORWARD.map((rule) => `-A FLANNEL-FWD ${rule}\n`).join('')}` +
        `-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD\nCOMMIT\n`,
    );
  });

  test('puts only the jump back when only that is missing', () => {
    const saved = parseIptablesSave(SAVED.replace(/-A POSTROUTING.*\n/, ''));
    const { input } = planTable('masquerade', saved, masqueradeRules(NETWORK, SUBNET, true), [NETWORK]);
    assert.equal(input, '*nat\n-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG\nCOMMIT\n');
  });

  test('replaces what two agents that started together have doubled, in a transaction that only one of them can do', () => {
    const [jump, mark] = [
      '-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG',
      FLANNEL_MASQUERADE[0],
    ];
    const doubled = SAVED.replace(jump, `${jump}\n${jump}`).replace(`-A FLANNEL-POSTRTG ${mark}`, '$&\n$&');
    const wanted = masqueradeRules(NETWORK, SUBNET, true);
    assert.equal(
      planTable('masquerade', parseIptablesSave(doubled), wanted, [NETWORK]).input,
      `*nat\n-D FLANNEL-POSTRTG ${mark}\n-D FLANNEL-POSTRTG ${mark}\n-I FLANNEL-POSTRTG ${mark}\n` +
        `${jump.replace('-A', '-D')}\n${jump.replace('-A', '-D')}\n${jump}\nCOMMIT\n`,
    );
  });

  test('drops chain and jump when nobody else needs them, and keeps them for a sibling', () => {
    const alone = planTable('forward', parseIptablesSave(SAVED), [], [NETWORK]);
    assert.equal(
      alone.input,
      '*filter\n-D FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD\n-F FLANNEL-FWD\n-X FLANNEL-FWD\nCOMMIT\n',
    );
    const shared = SAVED.replace(
      '-A FLANNEL-FWD',
      '-A FLANNEL-FWD -s 10.6.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT\n-A FLANNEL-FWD',
    );
    assert.equal(
      planTable('forward', parseIptablesSave(shared), [], [NETWORK]).input,
      `*filter\n${FLANNEL_FORWARD.map((rule) => `-D FLANNEL-FWD ${rule}\n`).join('')}COMMIT\n`,
    );
  });

  test('keeps a chain that another chain jumps to', () => {
    const saved = parseIptablesSave(SAVED.replace('-A FORWARD -m', '-A INPUT -i lo -j FLANNEL-FWD\n-A FORWARD -m'));
    const { dropped, input } = planTable('forward', saved, [], [NETWORK]);
    assert.equal(dropped, false);
    assert.doesNotMatch(input, /-X|-F /);
  });

  test('does nothing at all where there is nothing and nothing is wanted', () => {
    assert.ok(planTable('forward', parseIptablesSave(''), [], [NETWORK]).idle);
  });
});

describe('nftables', () => {
  const address = (field: string, op: string, addr: string, len: number) => ({
    match: { op, left: { payload: { protocol: 'ip', field } }, right: { prefix: { addr, len } } },
  });
  const table = (rules: object[]) =>
    parseNftTable(
      JSON.stringify({
        nftables: [
          { metainfo: { json_schema_version: 1 } },
          { table: { family: 'ip', name: 'flannel-ipv4' } },
          { chain: { family: 'ip', table: 'flannel-ipv4', name: 'forward', handle: 1 } },
          ...rules.map((rule, index) => ({ rule: { chain: 'forward', handle: index + 2, ...rule } })),
        ],
      }),
    );

  test('takes over a flannel’s rules, which have no comment, and leaves rules with another comment', () => {
    const expr = [address('saddr', '==', '10.5.0.0', 16), { accept: null }];
    const present = table([{ expr }, { expr, comment: 'mine' }]);
    assert.equal(planNftables(present, NO_RULES, [NETWORK])?.input, 'delete rule ip flannel-ipv4 forward handle 2\n');
  });

  test('drops the table with its last chain', () => {
    const present = table([{ expr: [address('daddr', '==', '10.5.0.0', 16), { accept: null }] }]);
    assert.equal(
      planNftables(present, NO_RULES, [NETWORK])?.input,
      'flush chain ip flannel-ipv4 forward\ndelete chain ip flannel-ipv4 forward\ndelete table ip flannel-ipv4\n',
    );
  });

  test('has nothing to do without a table when nothing is wanted', () => {
    assert.equal(planNftables(undefined, NO_RULES, [NETWORK]), undefined);
  });
});
