import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { RunCommand } from '../../../src/host/command.js';
import { Firewall, type FirewallSettings } from '../../../src/host/firewall/firewall.js';
import { silentLogger } from '../../../src/log.js';
import type { Namespace } from '../../../src/lab/namespace.js';
import { namePrefix } from '../../harness/leftovers.js';
import { withNamespaces } from '../../harness/namespaces.js';
import { prefix } from '../../support/addresses.js';

const SETTINGS: FirewallSettings = {
  network: prefix('10.5.0.0/16'),
  subnet: prefix('10.5.34.0/24'),
  masquerade: true,
  forward: true,
  fullyRandom: true,
  nftables: false,
};
const SIBLING: FirewallSettings = { ...SETTINGS, network: prefix('10.6.0.0/16'), subnet: prefix('10.6.1.0/24') };
const NOTHING = { masquerade: false, forward: false };

/** A way to keep rules, and how to look at what is in the kernel without it. */
interface Variant {
  readonly name: string;
  readonly nftables: boolean;
  /** Programs by other names, and those that this machine is to lack. */
  readonly programs: Readonly<Record<string, string | undefined>>;
  readonly show: readonly [string, ...string[]];
  /** Deletes the first rule that forwards for the network. */
  readonly damage: (n: Namespace) => Promise<void>;
  readonly foreign: readonly [string, ...string[]][];
}

const iptablesVariant = (flavour: string): Variant => ({
  name: `iptables-${flavour}`,
  nftables: false,
  programs: {
    iptables: `iptables-${flavour}`,
    'iptables-save': `iptables-${flavour}-save`,
    'iptables-restore': `iptables-${flavour}-restore`,
  },
  show: [`iptables-${flavour}-save`],
  damage: async (n) => {
    await n.exec(`iptables-${flavour}`, ['-D', 'FLANNEL-FWD', '1']);
  },
  foreign: [
    [`iptables-${flavour}`, '-t', 'nat', '-N', 'FLANNEL-POSTRTG'],
    [
      `iptables-${flavour}`,
      '-t',
      'nat',
      '-A',
      'FLANNEL-POSTRTG',
      '-s',
      '10.5.0.0/16',
      '-d',
      '192.168.0.0/16',
      '-j',
      'RETURN',
    ],
    [
      `iptables-${flavour}`,
      '-A',
      'FORWARD',
      '-s',
      '10.5.0.0/16',
      '-m',
      'comment',
      '--comment',
      'my "own" rule',
      '-j',
      'ACCEPT',
    ],
  ],
});

const VARIANTS: readonly Variant[] = [
  iptablesVariant('nft'),
  iptablesVariant('legacy'),
  {
    name: 'nftables',
    nftables: true,
    programs: {},
    show: ['nft', 'list', 'ruleset'],
    damage: async (n) => {
      const { stdout } = await n.exec('nft', ['-a', 'list', 'chain', 'ip', 'flannel-ipv4', 'forward']);
      const handle = /accept comment "flanneld forward" # handle (\d+)/.exec(stdout)?.[1];
      await n.exec('nft', ['delete', 'rule', 'ip', 'flannel-ipv4', 'forward', 'handle', handle ?? '']);
    },
    foreign: [
      ['nft', 'add', 'table', 'ip', 'flannel-ipv4'],
      ['nft', 'add', 'chain', 'ip', 'flannel-ipv4', 'postrtg', '{ type nat hook postrouting priority srcnat; }'],
      ['nft', 'add', 'rule', 'ip', 'flannel-ipv4', 'postrtg', 'ip saddr 10.5.0.0/16 ip daddr 192.168.0.0/16 return'],
      ['nft', 'add', 'table', 'ip', 'mine'],
    ],
  },
];

/** Runs programs inside, by the names of the variant, and counts them. */
function runner(n: Namespace, programs: Variant['programs'] = {}): { run: RunCommand; commands: string[] } {
  const commands: string[] = [];
  const run: RunCommand = (command, args, options) => {
    commands.push(command);
    return n.exec(programs[command] ?? command, args, options);
  };
  return { run, commands };
}

for (const variant of VARIANTS) {
  describe(variant.name, () => {
    const open = (n: Namespace, settings: FirewallSettings, run = runner(n, variant.programs).run) =>
      Firewall.open({ ...settings, nftables: variant.nftables }, silentLogger, run);
    const show = async (n: Namespace) => {
      const { stdout } = await n.exec(variant.show[0], variant.show.slice(1));
      return stdout.replace(/^#.*\n/gm, '').replace(/\[\d+:\d+\]/g, '[0:0]');
    };
    const countOf = (text: string, part: string) => text.split(part).length - 1;
    const name = (test: string) => namePrefix(`hfw-${variant.name.slice(-4)}${test}`);

    test('a second look is one read and no write', async () => {
      await withNamespaces(name('1'), ['n'], async ({ n }) => {
        const { run, commands } = runner(n, variant.programs);
        const firewall = await open(n, SETTINGS, run);
        assert.equal(firewall.tool, variant.nftables ? 'nftables' : 'iptables');
        const first = await firewall.ensure();
        assert.deepEqual(first, { added: 8, removed: 0, dropped: [] });
        const before = await show(n);
        commands.length = 0;
        assert.deepEqual(await firewall.ensure(), { added: 0, removed: 0, dropped: [] });
        assert.deepEqual(commands, [variant.nftables ? 'nft' : 'iptables-save']);
        assert.equal(await show(n), before);
        // A restart knows its own rules again.
        assert.deepEqual(await (await open(n, SETTINGS)).ensure(), { added: 0, removed: 0, dropped: [] });
      });
    });

    test('a deleted rule and a flushed chain come back, in order', async () => {
      await withNamespaces(name('2'), ['n'], async ({ n }) => {
        const firewall = await open(n, SETTINGS);
        await firewall.ensure();
        const before = await show(n);
        await variant.damage(n);
        assert.notEqual(await show(n), before);
        assert.deepEqual(await firewall.ensure(), { added: 2, removed: 1, dropped: [] });
        assert.equal(await show(n), before);
        await (variant.nftables
          ? n.exec('nft', ['delete', 'table', 'ip', 'flannel-ipv4'])
          : n.exec(variant.programs.iptables ?? '', ['-t', 'nat', '-F']));
        await firewall.ensure();
        assert.equal(await show(n), before);
      });
    });

    test('two networks whose agents start at the same time end up with one chain, one jump and all their rules', async () => {
      await withNamespaces(name('6'), ['n'], async ({ n }) => {
        const [ours, sibling] = [await open(n, SETTINGS), await open(n, SIBLING)];
        await Promise.all([ours.ensure(), sibling.ensure()]);
        const both = await show(n);
        assert.equal(countOf(both, '10.5.34.0/24'), 3);
        assert.equal(countOf(both, '10.6.1.0/24'), 3);
        assert.equal(countOf(both, variant.nftables ? '0x00004000 return' : '0x4000/0x4000'), 1);
        if (!variant.nftables) assert.equal(countOf(both, '-j FLANNEL-POSTRTG'), 1);
      });
    });

    test('two networks, and others’ rules in the same chains, all keep theirs', async () => {
      await withNamespaces(name('3'), ['n'], async ({ n }) => {
        for (const [command, ...args] of variant.foreign) await n.exec(command, args);
        const untouched = await show(n);
        const ours = await open(n, SETTINGS);
        const sibling = await open(n, SIBLING);
        await ours.ensure();
        await sibling.ensure();
        const both = await show(n);
        assert.equal(countOf(both, '10.5.34.0/24'), 3);
        assert.equal(countOf(both, '10.6.1.0/24'), 3);
        assert.equal(countOf(both, variant.nftables ? '0x00004000 return' : '0x4000/0x4000'), 1);
        assert.deepEqual(await ours.ensure(), { added: 0, removed: 0, dropped: [] });
        assert.deepEqual(await sibling.ensure(), { added: 0, removed: 0, dropped: [] });

        await (await open(n, { ...SETTINGS, ...NOTHING })).ensure();
        const alone = await show(n);
        assert.equal(countOf(alone, '10.5.34.0/24'), 0);
        assert.equal(countOf(alone, '10.6.1.0/24'), 3);
        assert.deepEqual(await sibling.ensure(), { added: 0, removed: 0, dropped: [] });

        await (await open(n, { ...SIBLING, ...NOTHING })).ensure();
        const left = await show(n);
        for (const line of untouched.split('\n')) assert.ok(left.includes(line), `still there: ${line}`);
        assert.doesNotMatch(left, /10\.6\./);
        assert.doesNotMatch(left, /FLANNEL-FWD|chain forward/);
      });
    });

    test('a changed subnet, network and option leave nothing stale', async () => {
      await withNamespaces(name('4'), ['n'], async ({ n }) => {
        await (await open(n, SETTINGS)).ensure();
        const moved = { ...SETTINGS, subnet: prefix('10.5.35.0/24'), fullyRandom: false };
        assert.deepEqual(await (await open(n, moved)).ensure(), { added: 5, removed: 5, dropped: [] });
        const after = await show(n);
        assert.equal(countOf(after, '10.5.34.0/24'), 0);
        assert.doesNotMatch(after, /random/);

        const renumbered = { ...SIBLING, previousNetworks: [SETTINGS.network] };
        await (await open(n, renumbered)).ensure();
        assert.doesNotMatch(await show(n), /10\.5\./);

        const change = await (await open(n, { ...SIBLING, ...NOTHING })).ensure();
        assert.equal(change.dropped.length, variant.nftables ? 3 : 2);
        assert.doesNotMatch(await show(n), /flannel/i);
      });
    });
  });
}

describe('choice of the tool', () => {
  const missing = (n: Namespace, ...programs: string[]) =>
    runner(n, Object.fromEntries(programs.map((program) => [program, 'no-such-program']))).run;
  // `ip netns exec` itself is what reports the missing program, so a stand-in does it as `runCommand` would.
  const without =
    (n: Namespace, ...programs: string[]): RunCommand =>
    async (command, args, options) => {
      if (programs.includes(command))
        return (await import('../../../src/host/command.js')).runCommand('no-such-program', []);
      return missing(n)(command, args, options);
    };

  test('where only one tool exists it is used, whatever the configuration prefers', async () => {
    await withNamespaces(namePrefix('hfw6'), ['n'], async ({ n }) => {
      const onlyNft = await Firewall.open(SETTINGS, silentLogger, without(n, 'iptables'));
      assert.equal(onlyNft.tool, 'nftables');
      const onlyIptables = await Firewall.open({ ...SETTINGS, nftables: true }, silentLogger, without(n, 'nft'));
      assert.equal(onlyIptables.tool, 'iptables');
    });
  });

  test('without any, masquerading is refused in one line, and the rules for forwarding are not needed', async () => {
    await withNamespaces(namePrefix('hfw7'), ['n'], async ({ n }) => {
      const run = without(n, 'nft', 'iptables');
      await assert.rejects(Firewall.open(SETTINGS, silentLogger, run), {
        code: 'HOST',
        message: /^--ip-masq needs iptables or nft, and neither is installed: install the package iptables/,
      });
      const firewall = await Firewall.open({ ...SETTINGS, masquerade: false }, silentLogger, run);
      assert.equal(firewall.tool, 'none');
      assert.deepEqual(await firewall.ensure(), { added: 0, removed: 0, dropped: [] });
    });
  });

  test('a switch of EnableNFTables moves the rules from one tool to the other', async () => {
    await withNamespaces(namePrefix('hfw8'), ['n'], async ({ n }) => {
      const { run } = runner(n);
      await (await Firewall.open(SETTINGS, silentLogger, run)).ensure();
      assert.match((await n.exec('iptables-save', [])).stdout, /FLANNEL-FWD/);
      await (await Firewall.open({ ...SETTINGS, nftables: true }, silentLogger, run)).ensure();
      assert.doesNotMatch((await n.exec('iptables-save', [])).stdout, /FLANNEL/);
      assert.match((await n.exec('nft', ['list', 'table', 'ip', 'flannel-ipv4'])).stdout, /10\.5\.34\.0\/24/);
    });
  });
});
