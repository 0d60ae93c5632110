/** Flags as flannel takes them, and the choice of the interface by them. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { runCommand, type CommandResult } from '../../../src/host/command.js';
import { Cluster } from '../../harness/cluster.js';
import { FLANNELCTL, FLANNELD, ROOT } from '../../harness/daemon.js';
import { namePrefix } from '../../harness/leftovers.js';

function flanneld(args: readonly string[], environment: Record<string, string> = {}): Promise<CommandResult> {
  return runCommand(FLANNELD, args, { allowFailure: true, environment });
}

describe('the command line', () => {
  test('--help is for reading: it ends with 0, names every flag of flannel, and prints to standard output', async () => {
    const { status, stdout, stderr } = await flanneld(['--help']);
    assert.equal(status, 0);
    assert.equal(stderr, '');
    const flags = [
      ...['etcd-endpoints', 'etcd-prefix', 'etcd-keyfile', 'etcd-certfile', 'etcd-cafile', 'etcd-username'],
      ...['etcd-password', 'iface', 'iface-regex', 'iface-can-reach', 'public-ip', 'public-ipv6', 'subnet-file'],
      ...['subnet-lease-renew-margin', 'ip-masq', 'ip-masq-fully-random-disable', 'iptables-resync'],
      ...['iptables-forward-rules', 'ip-blackhole-route', 'healthz-ip', 'healthz-port', 'kube-subnet-mgr'],
      ...['kube-api-url', 'kubeconfig-file', 'kube-annotation-prefix', 'net-config-path'],
      ...['set-node-network-unavailable', 'v', 'version'],
      ...['control-socket', 'mtu', 'workers', 'log-format', 'source-check', 'trusted-source', 'cleanup'],
    ];
    for (const flag of flags) assert.match(stdout, new RegExp(`--?${flag}\\b`), flag);
    for (const alias of ['-help', '-h']) assert.equal((await flanneld([alias])).status, 0);
  });

  test('--version prints the version of package.json and ends with 0', async () => {
    const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
    for (const flag of ['--version', '-version', '--version=true']) {
      const { status, stdout, stderr } = await flanneld([flag]);
      assert.equal(status, 0, flag);
      assert.match(stdout + stderr, new RegExp(version.replaceAll('.', '\\.')));
    }
    const { stdout } = await runCommand(FLANNELCTL, ['version'], { allowFailure: true });
    assert.match(stdout, new RegExp(version.replaceAll('.', '\\.')));
  });

  const mistakes: readonly (readonly [args: readonly string[], environment: Record<string, string>, names: RegExp])[] =
    [
      [['--no-such-flag'], {}, /no-such-flag/],
      [['-no-such-flag=1'], {}, /no-such-flag/],
      [['--healthz-port=http'], {}, /healthz-port.*http/],
      [['--healthz-port=70000'], {}, /healthz-port/],
      [['--subnet-lease-renew-margin', '1440'], {}, /subnet-lease-renew-margin.*1439/],
      [['--ip-masq=perhaps'], {}, /ip-masq/],
      [['--iface-regex=('], {}, /iface-regex/],
      [['--public-ip=here'], {}, /public-ip/],
      [['--source-check=some'], {}, /source-check.*strict/],
      [['--trusted-source=10.0.0.0/33'], {}, /trusted-source/],
      [['--etcd-endpoints'], {}, /etcd-endpoints/],
      [['stray'], {}, /stray/],
      [['--log-format=xml'], {}, /log-format.*json/],
      [[], { FLANNELD_HEALTHZ_PORT: 'none' }, /FLANNELD_HEALTHZ_PORT|healthz-port/i],
      [['--kube-subnet-mgr'], {}, /kube-subnet-mgr/],
      [['--kube-api-url=https://127.0.0.1:6443'], {}, /kube-api-url/],
    ];
  test('unknown flags, bad values and what is not built are one line that names the flag, and exit 2', async () => {
    await Promise.all(
      mistakes.map(async ([args, environment, names]) => {
        const { status, stdout, stderr } = await flanneld(args, environment);
        const shown = `${args.join(' ')}: ${stderr}`;
        assert.equal(status, 2, shown);
        assert.equal(stdout, '', shown);
        assert.match(stderr, names, shown);
        assert.equal(stderr.trim().split('\n').length, 1, shown);
      }),
    );
  });

  test('without root it says in one line that it needs it', async () => {
    const unprivileged = ['--reuid=65534', '--regid=65534', '--clear-groups', '--inh-caps=-all', FLANNELD];
    const { status, stderr } = await runCommand('setpriv', unprivileged, { allowFailure: true });
    assert.ok(status !== 0 && status !== 126, `${status}: ${stderr}`);
    assert.equal(stderr.trim().split('\n').length, 1, stderr);
    assert.match(stderr, /root/);
  });

  test('both programs run from any folder and through a symbolic link', async () => {
    const folder = join(tmpdir(), namePrefix('links'));
    mkdirSync(folder, { recursive: true });
    try {
      for (const program of [FLANNELD, FLANNELCTL]) {
        const link = join(folder, program.split('/').at(-1) ?? '');
        symlinkSync(program, link);
        const { status } = await runCommand(link, ['--help'], { allowFailure: true, workingDirectory: '/' });
        assert.equal(status, 0);
      }
    } finally {
      await runCommand('rm', ['-r', folder]);
    }
  });
});

describe('the choice of the interface', { concurrency: 4 }, () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await Cluster.create('flags', { nodes: 4 });
    // eth0 has the default route and 192.168.64.1N; eth1 two addresses of another network; eth2 an address in a third.
    for (const [index, node] of cluster.nodes.entries()) {
      for (const [device, addresses] of [
        ['eth1', [`172.20.1.${index + 1}/24`, `172.20.9.${index + 1}/24`]],
        ['eth2', [`172.30.0.${index + 1}/24`]],
      ] as const) {
        await node.namespace.ip(`link add ${device} type veth peer name ${device}p`);
        await node.namespace.setUp(device);
        await node.namespace.setUp(`${device}p`);
        for (const address of addresses) await node.namespace.addAddress(device, address);
      }
      await node.namespace.ip('link set eth2 mtu 1300');
    }
  });
  after(() => cluster?.dispose());

  interface Choice {
    readonly flags?: readonly string[];
    readonly environment?: Record<string, string>;
    /** Name, last octets stand for the node's number. */
    readonly chosen: readonly [device: string, address: string, publicIp?: string];
  }
  const N = '{n}';
  const choices: Record<string, Choice> = {
    'nothing: the default route': { chosen: ['eth0', `192.168.64.1${N}`] },
    '-iface NAME': { flags: ['-iface', 'eth1'], chosen: ['eth1', `172.20.1.${N}`] },
    '--iface=NAME': { flags: ['--iface=eth2'], chosen: ['eth2', `172.30.0.${N}`] },
    '-iface=ADDRESS, a second one of its interface': {
      flags: [`-iface=172.20.9.${N}`],
      chosen: ['eth1', `172.20.9.${N}`],
    },
    '--iface twice: the first that is there': {
      flags: ['--iface', 'eth7', '--iface', 'eth2'],
      chosen: ['eth2', `172.30.0.${N}`],
    },
    FLANNELD_IFACE: { environment: { FLANNELD_IFACE: 'eth1' }, chosen: ['eth1', `172.20.1.${N}`] },
    'a flag beats the environment': {
      flags: ['--iface', 'eth2'],
      environment: { FLANNELD_IFACE: 'eth1' },
      chosen: ['eth2', `172.30.0.${N}`],
    },
    '--iface-regex on a name': { flags: ['--iface-regex', '^eth[2-9]$'], chosen: ['eth2', `172.30.0.${N}`] },
    '--iface-regex on an address': { flags: ['--iface-regex=172\\.30\\..*'], chosen: ['eth2', `172.30.0.${N}`] },
    '--iface-regex after --iface has failed': {
      flags: ['--iface', 'eth7', '--iface-regex', 'eth1$'],
      chosen: ['eth1', `172.20.1.${N}`],
    },
    '--iface-can-reach': { flags: ['--iface-can-reach', '172.30.0.200'], chosen: ['eth2', `172.30.0.${N}`] },
    '--iface-can-reach by the default route': {
      flags: ['--iface-can-reach=198.51.100.1'],
      chosen: ['eth0', `192.168.64.1${N}`],
    },
    '--public-ip alone selects the interface that has it': {
      flags: [`--public-ip=172.20.1.${N}`],
      chosen: ['eth1', `172.20.1.${N}`, `172.20.1.${N}`],
    },
    '--public-ip with --iface is only what is told to others': {
      flags: ['--iface=eth2', '--public-ip', '198.51.100.7'],
      chosen: ['eth2', `172.30.0.${N}`, '198.51.100.7'],
    },
  };

  for (const [name, { flags = [], environment, chosen }] of Object.entries(choices)) {
    test(name, () =>
      cluster.withNode(async (node) => {
        const number = String(cluster.nodes.indexOf(node) + 1);
        const filled = (text: string): string => text.replace(N, number);
        const daemon = await node.start(flags.map(filled), { environment });
        const { interface: external, publicIP, backend } = await daemon.status();
        const [device, address, publicIp = address] = chosen;
        assert.equal(external?.name, device);
        assert.equal(external.address, filled(address));
        assert.equal(publicIP, filled(publicIp));
        assert.equal(backend?.mtuBytes, (device === 'eth2' ? 1300 : 1500) - 28);
      }),
    );
  }

  test('an interface that is not there is waited for, and what was looked for is said once', () =>
    cluster.withNode(async (node) => {
      const daemon = node.launch(['--iface=eth5']);
      await daemon.saying(/eth5/);
      await node.namespace.ip('link add eth5 type veth peer name eth5p');
      await node.namespace.addAddress('eth5', '172.31.0.1/24');
      await node.namespace.setUp('eth5');
      await node.namespace.setUp('eth5p');
      await daemon.ready();
      assert.equal(daemon.said(/eth5.*(no|not)|(no|not).*eth5/i).length, 1, daemon.output);
      assert.equal((await daemon.status()).interface?.name, 'eth5');
    }));

  test('--public-ip that no interface has is refused, naming it', () =>
    cluster.withNode(async (node) => {
      const daemon = node.launch(['--public-ip=198.51.100.7']);
      await daemon.saying(/198\.51\.100\.7/);
      assert.equal((await cluster.storedLeases()).filter(({ key }) => key.includes('198.51')).length, 0);
    }));

  test('--mtu, --workers, -v and JSON logs do what they say, and flags of klog are taken', () =>
    cluster.withNode(async (node) => {
      const daemon = await node.start([
        ...['--mtu', '1200', '--workers=1', '-v=3', '--log-format=json', '--logtostderr=true', '-vmodule=x=1'],
      ]);
      assert.equal(daemon.subnetEnv.FLANNEL_MTU, '1200');
      assert.match(await node.namespace.ip('link show flannel0'), /mtu 1200/);
      const { backend } = await daemon.status();
      assert.deepEqual(backend?.workers.map(({ direction, state }) => [direction, state]).sort(), [
        ['decap', 'running'],
        ['encap', 'running'],
      ]);
      for (const line of daemon.lines) assert.doesNotThrow(() => void JSON.parse(line), line);
    }));

  test("the network configuration's MTU and Port are used", () =>
    cluster.withNode(async (node) => {
      await cluster.putConfig({ Network: '10.9.0.0/16', Backend: { Type: 'udp', Port: 9999, MTU: 1280 } }, '/port');
      const daemon = await node.start(['--etcd-prefix=/port']);
      assert.equal(daemon.subnetEnv.FLANNEL_MTU, '1280');
      assert.equal((await daemon.status()).backend?.port, 9999);
      const { stdout } = await node.namespace.exec('ss', ['-H', '-u', '-l', '-n']);
      assert.ok(stdout.includes(`${node.address}:9999 `), stdout);
    }));
});
