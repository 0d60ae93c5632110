/** `flannelctl doctor` on real nodes: well, then with every fault of the lab, then with what breaks on a node itself. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import type { CheckResult } from '../../../src/debug/doctor/check.js';
import { Lab } from '../../../src/lab/lab.js';
import { until } from '../../harness/until.js';
import { flannelctlOn, labCommand, labName, labStatus, sweepLabs } from '../../support/labs.js';

const name = labName('doctor');

interface Diagnosis {
  readonly status: number | null;
  readonly checks: readonly CheckResult[];
}

async function doctor(node: string): Promise<Diagnosis> {
  const { status, stdout, stderr } = await flannelctlOn(name, node, 'doctor', '--json');
  assert.equal(stderr, '');
  return { status, ...(JSON.parse(stdout) as { checks: CheckResult[] }) };
}

const findings = (checks: readonly CheckResult[]): string[] =>
  checks.filter(({ status }) => status === 'fail' || status === 'warn').map(({ id, status }) => `${id} ${status}`);

/** Asks until exactly these checks warn or fail, since an agent learns of some things a moment later. */
async function finds(node: string, expected: readonly string[]): Promise<Diagnosis> {
  let last: Diagnosis | undefined;
  const wanted = [...expected].sort().join();
  return until(
    `doctor on ${node} finds ${wanted || 'nothing'}`,
    async () => {
      last = await doctor(node);
      return findings(last.checks).sort().join() === wanted ? last : undefined;
    },
    { withinMs: 60_000, evidence: () => JSON.stringify(last, null, 1) },
  );
}

type Expectation = readonly [id: string, status: CheckResult['status'], says: RegExp];

/** Asks until the checks come out so, whatever the others say. */
async function names(node: string, ...expected: readonly Expectation[]): Promise<Diagnosis> {
  let last: Diagnosis | undefined;
  return until(
    `doctor on ${node} says ${expected.map(([id, status]) => `${id} ${status}`).join(', ')}`,
    async () => {
      const { checks } = (last = await doctor(node));
      const asExpected = ([id, status, says]: Expectation) =>
        checks.some((check) => check.id === id && check.status === status && says.test(check.summary));
      return expected.every(asExpected) ? last : undefined;
    },
    { withinMs: 60_000, evidence: () => JSON.stringify(last, null, 1) },
  );
}

describe('doctor', () => {
  before(async () => {
    await sweepLabs();
    const { status, stderr } = await labCommand('up', '--name', name, '--nodes', '3', '--pods', '1');
    assert.equal(status, 0, stderr);
  });
  after(sweepLabs);

  test('finds nothing wrong with a healthy node, and exits 0', async () => {
    assert.equal((await finds('node1', [])).status, 0);
    let shown = '';
    await until(
      'the report for people says so, too',
      async () => {
        shown = (await flannelctlOn(name, 'node1', 'doctor')).stdout;
        const tunnel = /^ok +tunnel +packets go through the tunnel and back: 2 nodes$/m.test(shown);
        return tunnel && shown.endsWith('\nthis node is well\n');
      },
      { evidence: () => shown },
    );
  });

  describe('with the faults of the lab', () => {
    const heal = async (): Promise<void> => {
      assert.equal((await labCommand('heal', '--name', name)).stdout, 'all faults are gone\n');
    };
    const breakIt = async (...args: string[]): Promise<void> => {
      const { status, stderr } = await labCommand('break', '--name', name, ...args);
      assert.equal(status, 0, stderr);
    };

    test('mtu on the way to one node, while another is down', async (t) => {
      t.after(heal);
      await breakIt('mtu');
      await breakIt('node-down', '--node', 'node3');
      const { status } = await names(
        'node1',
        ['path-mtu', 'fail', /to 192\.168\.\d+\.12 .* only 1400 bytes fit, not 1500/],
        ['peers', 'fail', /no answer from 192\.168\.\d+\.13/],
      );
      assert.equal(status, 1);
    });

    test('firewall, between two nodes', async (t) => {
      t.after(heal);
      await breakIt('firewall', '--node', 'node2', '--peer', 'node1');
      const filtered = /filtered between here and 192\.168\.\d+\.12 \(10\.244\.1\.0\/24\)$/;
      await Promise.all([
        names('node1', ['tunnel', 'fail', filtered], ['peers', 'ok', /./]),
        names('node3', ['tunnel', 'ok', /2 nodes/]),
      ]);
    });

    test('rp-filter', async (t) => {
      t.after(heal);
      await breakIt('rp-filter', '--node', 'node1');
      const { status } = await names('node1', ['rp-filter', 'warn', /strict on flannel0/]);
      assert.equal(status, 0);
    });

    test('stolen-lease', async (t) => {
      t.after(heal);
      await breakIt('stolen-lease');
      const lost = /10\.244\.1\.0\/24 is lost: .* belongs to 192\.168\.\d+\.99/;
      // Told once, and with one remedy.
      await names(
        'node2',
        ['lost-subnet', 'fail', lost],
        ['bridge', 'skip', /see the check "lost-subnet"/],
        ['routes', 'ok', /less what goes with addresses that the check "lost-subnet" tells of/],
      );
      const { stdout } = await labCommand('status', '--name', name);
      assert.match(
        stdout,
        /^fault +stolen-lease: the lease of 10\.244\.1\.0\/24, node2's, belongs to 192\.168\.\d+\.99 now$/m,
      );
    });

    test('limit', async (t) => {
      t.after(heal);
      await breakIt('limit');
      await names('node1', ['path-loss', 'warn', /lost on the way to 192\.168\.\d+\.12/]);
    });

    test('and without them all is well again', async () => {
      await Promise.all(['node1', 'node2', 'node3'].map((node) => finds(node, [])));
    });

    test('what makes no sense is refused in one line', async () => {
      const refused: readonly (readonly [args: string[], status: number, line: RegExp])[] = [
        [['gremlins'], 2, /expected mtu, firewall, node-down/],
        [['mtu', '--node', 'node9'], 1, /there is no node "node9": this lab has node1 to node3/],
        [['mtu', '--peer', 'node1'], 2, /--peer goes with "firewall" only/],
        [['firewall', '--peer', 'node2'], 2, /name another node/],
      ];
      for (const [args, expected, line] of refused) {
        const { status, stderr } = await labCommand('break', '--name', name, ...args);
        assert.equal(status, expected, args.join(' '));
        assert.match(stderr, line);
        assert.equal(stderr.split('\n').length, 2);
      }
    });
  });

  test('names what is wrong on the node itself, all of it at once', async () => {
    const lab = await Lab.open(name);
    const on = (command: string, ...args: string[]): Promise<unknown> => lab.exec('node1', command, args);
    const { subnetFile } = (await labStatus(name)).nodes[0];
    const subnetEnv = readFileSync(subnetFile, 'utf8');
    await on('sysctl', '-q', '-w', 'net.ipv4.ip_forward=0');
    await on('ip', 'address', 'add', '10.244.99.1/24', 'dev', 'cni0');
    await on('ip', 'route', 'add', '10.244.50.0/24', 'dev', 'eth0');
    await on('iptables', '-t', 'nat', '-I', 'POSTROUTING', '-j', 'ACCEPT');
    await on('iptables', '-I', 'FORWARD', '-i', 'flannel0', '-j', 'DROP');
    await on('iptables', '-I', 'INPUT', '-p', 'udp', '--dport', '8285', '-j', 'DROP');
    writeFileSync(subnetFile, subnetEnv.replace(/FLANNEL_SUBNET=.*/, 'FLANNEL_SUBNET=10.244.77.1/24'));
    try {
      const { status, checks } = await finds('node1', [
        ...['bridge fail', 'firewall-forward fail', 'firewall-tunnel fail', 'forwarding fail', 'masquerade fail'],
        ...['routes fail', 'subnet-file fail', 'tunnel fail'],
      ]);
      assert.equal(status, 1);
      for (const check of checks) {
        if (check.status === 'fail') assert.ok(check.remedy !== null && check.remedy.length > 10, check.id);
      }
    } finally {
      await on('sysctl', '-q', '-w', 'net.ipv4.ip_forward=1');
      await on('ip', 'address', 'delete', '10.244.99.1/24', 'dev', 'cni0');
      await on('ip', 'route', 'delete', '10.244.50.0/24', 'dev', 'eth0');
      await on('iptables', '-t', 'nat', '-D', 'POSTROUTING', '-j', 'ACCEPT');
      await on('iptables', '-D', 'FORWARD', '-i', 'flannel0', '-j', 'DROP');
      await on('iptables', '-D', 'INPUT', '-p', 'udp', '--dport', '8285', '-j', 'DROP');
      writeFileSync(subnetFile, subnetEnv);
    }
    await finds('node1', []);
  });

  test('tells a node without a daemon, an underlay that became narrower, and an etcd that is gone', async () => {
    const lab = await Lab.open(name);
    const { nodes, etcd } = await labStatus(name);
    const [, , node3] = nodes;
    process.kill(node3.flanneld.pid ?? assert.fail('node3 has no daemon'), 'SIGKILL');
    await lab.exec('node1', 'ip', ['link', 'set', 'eth0', 'mtu', '1400']);
    const [dead] = await Promise.all([
      names('node3', ['agent', 'fail', /no flanneld at/]),
      names(
        'node1',
        ['tunnel', 'fail', /no flanneld listens at 192\.168\.\d+\.13/],
        ['mtu', 'fail', /1472 do not fit: eth0 has 1400/],
      ),
    ]);
    assert.equal(dead.status, 1);
    process.kill(etcd.pid ?? assert.fail('there is no etcd'), 'SIGKILL');
    const { checks } = await names('node1', ['etcd', 'fail', /etcd/]);
    assert.equal(checks.find(({ id }) => id === 'clock')?.status, 'skip');
  });
});
