/**
 * The life of `flanneld` as an operator sees it, beside a real etcd:
 *
 *   namespace \"life\":  flanneld ── 127.0.0.1:PORT ── etcd
 *                         eth0 192.0.2.1/24 (veth), default route, ip_forward
 */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';

import { EtcdServer } from '../../../src/lab/etcd-server.js';
import { handoverPath } from '../../../src/flanneld/handover.js';
import { Namespace } from '../../../src/lab/namespace.js';
import { Daemon, NodeFiles } from './daemon.js';
import { namePrefix } from '../../harness/leftovers.js';

const PREFIX = '/coreos.com/network';
const GOOD = '{"Network": "10.5.0.0/16"}';

let node: Namespace;
let etcd: EtcdServer;
let files: NodeFiles;
const daemons: Daemon[] = [];

before(async () => {
  node = await Namespace.create(namePrefix('life'));
  await node.ip('link add eth0 type veth peer name gateway0');
  await node.addAddress('eth0', '192.0.2.1/24');
  await node.setUp('eth0');
  await node.setUp('gateway0');
  await node.addRoute('default', 'via 192.0.2.254');
  await node.setSysctl('net.ipv4.ip_forward', 1);
  etcd = await EtcdServer.start({
    spawn: (command, args, options) => spawn(...node.enter(command, args), options),
  });
});
after(async () => {
  await etcd?.dispose();
  await node?.remove();
});
beforeEach(async () => {
  files = new NodeFiles();
  await etcd.delete(PREFIX, { prefix: true });
});
afterEach(async () => {
  for (const daemon of daemons.splice(0)) await daemon.kill();
  const { stdout } = await node.exec('ip', ['-o', 'link', 'show', 'type', 'tun']);
  for (const [, device] of stdout.matchAll(/^\d+: ([^:@]+)/gm)) await node.ip(`link delete ${device}`);
  files.remove();
});

function start(...more: string[]): Daemon {
  return run(files.flags(etcd.endpoints, ...more));
}

function run(args: readonly string[], environment: Record<string, string> = {}): Daemon {
  const daemon = new Daemon(node, args, environment);
  daemons.push(daemon);
  return daemon;
}

function configure(json: string): Promise<void> {
  return etcd.put(`${PREFIX}/config`, json);
}

/** GET, from within the namespace. */
async function fetchInside(url: string): Promise<{ status: number; body: string }> {
  const script = `fetch(${JSON.stringify(url)}).then(async (r) => console.log(JSON.stringify({ status: r.status, body: await r.text() })))`;
  const { stdout } = await node.exec(process.execPath, ['-e', script]);
  return JSON.parse(stdout) as { status: number; body: string };
}

async function until(what: string, condition: () => Promise<boolean> | boolean): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `it never came: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

describe('the command line', () => {
  for (const [args, code, where, text] of [
    [['--help'], 0, 'stdout', /^NAME$/],
    [['-h'], 0, 'stdout', /--etcd-endpoints/],
    [['--version'], 0, 'stdout', /^flanneld \(flannelette\) \d+\.\d+\.\d+/],
    [['--nonsense'], 2, 'stderr', /^flanneld: unknown flag --nonsense/],
    [['--mtu=1'], 2, 'stderr', /^flanneld: --mtu: expected/],
    [['--kube-subnet-mgr'], 2, 'stderr', /^flanneld: --kube-subnet-mgr: .*not built yet/],
    [['--etcd-cafile=/does/not/exist', '--etcd-endpoints=https://127.0.0.1:1'], 2, 'stderr', /--etcd-cafile/],
  ] as const) {
    test(`${args.join(' ')} ends with ${code}`, async () => {
      const daemon = run(
        args.includes('--etcd-cafile=/does/not/exist' as never) ? files.flags([], ...args).slice(1) : args,
      );
      assert.equal((await daemon.ended).code, code);
      const lines = where === 'stdout' ? daemon.stdout : daemon.lines;
      assert.ok(
        lines.some((line) => text.test(line)),
        lines.join('\n'),
      );
      // What is found wrong once the agent has said that it starts is one line more, and no second complaint.
      const complaints = daemon.lines.filter((line) => !/ INFO flanneld .* starts/.test(line));
      if (code === 2) assert.equal(complaints.length, 1, daemon.lines.join('\n'));
      daemon.assertNoStackTrace();
    });
  }
});

describe('a start', () => {
  test('with a configuration gets ready, and everything says so', async () => {
    await configure(GOOD);
    const notifySocket = join(files.folder, 'notify');
    const notified = listenDatagrams(notifySocket);
    await until('the notify socket', () => existsSync(notifySocket));
    const daemon = run(files.flags(etcd.endpoints, '--healthz-port=8080', '--healthz-ip=127.0.0.1', '--ip-masq'), {
      NOTIFY_SOCKET: notifySocket,
      WATCHDOG_USEC: '1000000',
    });
    try {
      await daemon.ready();
      const env = readFileSync(files.subnetFile, 'utf8');
      assert.match(
        env,
        /^FLANNEL_NETWORK=10\.5\.0\.0\/16\nFLANNEL_SUBNET=10\.5\.\d+\.1\/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n$/,
      );
      const subnet = (/FLANNEL_SUBNET=(10\.5\.\d+)\.1/.exec(env) ?? [])[1];

      assert.equal(statSync(files.controlSocket).mode & 0o777, 0o600);
      const status = await files.status();
      assert.equal(status.state, 'ready');
      assert.equal(status.pid, daemon.pid);
      assert.equal(status.lease?.subnet, `${subnet}.0/24`);
      assert.equal(status.publicIP, '192.0.2.1');
      assert.equal(status.backend?.device, 'flannel0');
      assert.equal(status.store.healthy, true);

      assert.equal((await fetchInside('http://127.0.0.1:8080/healthz')).status, 200);
      assert.equal((await fetchInside('http://127.0.0.1:8080/readyz')).status, 200);
      const { body } = await fetchInside('http://127.0.0.1:8080/metrics');
      assert.match(body, /^flannel_leases 1$/m);
      assert.match(body, /^flannel_packets_total\{direction="encap"\} \d+$/m);
      assert.match(body, /^flannel_store_requests_total\{operation="txn",result="ok"\} [1-9]/m);

      assert.ok((await etcd.get(`${PREFIX}/subnets/${subnet}.0-24`))?.includes('"PublicIP":"192.0.2.1"'));
      await until('a second sign of life', () => notified.text().split('WATCHDOG=1').length > 2);
      await daemon.stop();
      await until('the word that it stops', () => notified.text().includes('STOPPING=1'));
      assert.match(notified.text(), /READY=1\nSTATUS=10\.5\./);
      assert.ok(notified.text().indexOf('READY=1') > 0);
      assert.ok(await etcd.get(`${PREFIX}/subnets/${subnet}.0-24`), 'the lease stays');
      assert.ok(!existsSync(files.controlSocket));
    } finally {
      notified.stop();
    }
  });

  test('with JSON logs says every line as an object', async () => {
    await configure(GOOD);
    const daemon = start('--log-format=json', '-v=1');
    await daemon.line(/"message":"ready"/);
    await daemon.stop();
    for (const line of daemon.lines) {
      const { time, level, message } = JSON.parse(line) as Record<string, unknown>;
      assert.match(String(time), /^\d{4}-.*Z$/);
      assert.match(String(level), /^(debug|info|warn|error)$/);
      assert.equal(typeof message, 'string');
    }
  });
});

describe('a bad configuration', () => {
  /** One of each stage that refuses; all that is refused is in `e2e/configuration.test.ts`. */
  const refused: [string, string, RegExp][] = [
    ['not JSON', '{"Network": "10.5', /not JSON/],
    ['nothing at all', '', /./],
    ['SubnetLen 17 in a /16', '{"Network": "10.5.0.0/16", "SubnetLen": 17}', /SubnetLen 17/],
    ['a Network that contains the external address', '{"Network": "192.0.0.0/16"}', /192\.0\.2\.1/],
  ];

  test('that becomes bad in another way is refused in one line each time, and picked up when repaired, without a restart', async () => {
    const daemon = start();
    await daemon.line(/waiting for the network configuration: .*config/);
    for (const [what, json, line] of refused) {
      const from = daemon.lines.length;
      await configure(json);
      const index = await daemon.line(/waiting for/, from);
      const said = daemon.lines[index];
      assert.match(said, line, what);
      const status = await files.status();
      assert.ok(status.reason !== undefined && said.includes(status.reason), `${what}: ${status.reason}`);
    }
    // However often it was looked at, each was said once.
    await new Promise((resolve) => setTimeout(resolve, 2500));
    assert.equal(daemon.lines.filter((more) => / (WARN|ERROR) /.test(more)).length, refused.length + 1);
    await configure(GOOD);
    await daemon.ready();
    await daemon.stop();
  });
});

describe('waiting', () => {
  test('for etcd ends when etcd is there', async () => {
    await configure(GOOD);
    await etcd.stop();
    try {
      const daemon = start('--healthz-port=8082', '--healthz-ip=127.0.0.1');
      await daemon.line(/WARN waiting for the network configuration: etcd at .*refused/);
      assert.equal((await files.status()).store.healthy, false);
      assert.equal((await fetchInside('http://127.0.0.1:8082/healthz')).status, 200);
      const readyz = await fetchInside('http://127.0.0.1:8082/readyz');
      assert.equal(readyz.status, 503);
      assert.match(readyz.body, /waiting for the network configuration: etcd at .*refused/);
      await etcd.restart();
      await daemon.ready();
      assert.equal((await fetchInside('http://127.0.0.1:8082/readyz')).status, 200);
      await daemon.stop();
    } finally {
      if (etcd.pid === undefined) await etcd.restart();
    }
  });

  test('for an interface ends when it is there', async () => {
    await configure(GOOD);
    const daemon = start('--iface=eth7');
    try {
      await daemon.line(/WARN waiting for the external interface: .*eth7/);
      await node.ip('link add eth7 type veth peer name gateway7');
      await node.addAddress('eth7', '198.51.100.7/24');
      await node.setUp('eth7');
      await node.setUp('gateway7');
      await daemon.ready();
      assert.equal((await files.status()).publicIP, '198.51.100.7');
      await daemon.stop();
    } finally {
      await node.exec('ip', ['link', 'delete', 'eth7'], { allowFailure: true });
    }
  });

  test('for a free subnet ends when the network is wider', async () => {
    await configure('{"Network": "10.5.0.0/16", "SubnetMin": "10.5.1.0", "SubnetMax": "10.5.1.0"}');
    await etcd.put(`${PREFIX}/subnets/10.5.1.0-24`, '{"PublicIP":"192.0.2.9","PublicIPv6":null}');
    const daemon = start();
    await daemon.line(/WARN waiting for a subnet: out of subnets/);
    await configure(GOOD);
    await daemon.ready();
    await daemon.stop();
  });
});

describe('a signal', () => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const moments: [string, () => Promise<Daemon>][] = [
      [
        'while etcd cannot be reached',
        async () => {
          const daemon = run(files.flags(['http://127.0.0.1:1']));
          await daemon.line(/waiting/);
          return daemon;
        },
      ],
      [
        'while etcd is silent',
        async () => {
          const daemon = run(files.flags(['http://192.0.2.77:2379']));
          await daemon.line(/INFO/);
          return daemon;
        },
      ],
      [
        'while there is no configuration',
        async () => {
          const daemon = start();
          await daemon.line(/waiting/);
          return daemon;
        },
      ],
      [
        'while there is no interface',
        async () => {
          await configure(GOOD);
          const daemon = start('--iface=eth9');
          await daemon.line(/waiting/);
          return daemon;
        },
      ],
      [
        'while it starts the backend',
        async () => {
          await configure(GOOD);
          const daemon = start();
          await daemon.line(/INFO leased /);
          return daemon;
        },
      ],
      [
        'while it starts the backend with an `ip` that hangs',
        async () => {
          await configure(GOOD);
          const programs = join(files.folder, 'programs');
          mkdirSync(programs);
          const { stdout: real } = await node.exec('sh', ['-c', 'command -v ip']);
          const steps = [
            `case "$*" in *addrgenmode*) : > '${programs}/hangs'; while [ -e '${programs}' ]; do sleep 0.1; done ;; esac`,
            `exec '${real.trim()}' "$@"`,
          ];
          writeFileSync(join(programs, 'ip'), `#!/bin/sh\n${steps.join('\n')}\n`, { mode: 0o755 });
          const daemon = run(files.flags(etcd.endpoints), { PATH: `${programs}:${process.env.PATH}` });
          await until('ip hangs', () => existsSync(join(programs, 'hangs')));
          return daemon;
        },
      ],
      [
        'when it is ready',
        async () => {
          await configure(GOOD);
          const daemon = start();
          await daemon.ready();
          return daemon;
        },
      ],
    ];
    for (const [when, reach] of moments) {
      test(`${signal} ${when} ends it with 0`, async () => {
        const daemon = await reach();
        await daemon.stop(signal);
        assert.ok(!existsSync(files.controlSocket));
        assert.ok(!existsSync(handoverPath(files.controlSocket)));
      });
    }
  }

  test('SIGUSR1 opens no debugger', async () => {
    const daemon = run(files.flags(['http://127.0.0.1:1']));
    await daemon.line(/waiting/);
    daemon.signal('SIGUSR1');
    await daemon.line(/SIGUSR1 is not used/);
    await daemon.stop();
    assert.doesNotMatch(daemon.lines.join('\n'), /debugger/i);
  });
});

describe('the own lease', () => {
  test('that another node has taken is never overwritten, and given up for another', async () => {
    await configure(GOOD);
    const daemon = start('--healthz-port=8081', '--healthz-ip=127.0.0.1', '--ip-masq', '--ip-blackhole-route');
    await daemon.ready();
    const subnet = (await files.status()).lease?.subnet ?? assert.fail('no lease');
    const key = `${PREFIX}/subnets/${subnet.replace('/', '-')}`;
    const theirs = '{"PublicIP":"192.0.2.9","PublicIPv6":null}';
    // No other subnet is free at first.
    await configure('{"Network": "10.5.0.0/16", "SubnetMin": "10.5.99.0", "SubnetMax": "10.5.99.0"}');
    await etcd.put(`${PREFIX}/subnets/10.5.99.0-24`, theirs);
    await daemon.line(/WARN the network configuration in the store differs .* in SubnetMin, SubnetMax/);
    await etcd.put(key, theirs);
    await daemon.line(/ERROR subnet .* is lost: .* belongs to 192\.0\.2\.9 now/);
    await daemon.line(/WARN .*no new place yet: out of subnets/);
    const readyz = await fetchInside('http://127.0.0.1:8081/readyz');
    assert.equal(readyz.status, 503);
    assert.match(readyz.body, /is lost/);
    const lost = await files.status();
    assert.deepEqual([lost.state, lost.lease], ['lease', undefined]);
    assert.equal(
      lost.backend?.workers.every(({ state }) => state === 'running'),
      true,
    );
    assert.equal(await etcd.get(key), theirs);
    await configure(GOOD);
    await daemon.line(/INFO ready again /);
    assert.equal(await etcd.get(key), theirs);
    const now = await files.status();
    const next = now.lease?.subnet ?? assert.fail('no lease');
    assert.notEqual(next, subnet);
    assert.equal(now.state, 'ready');
    assert.deepEqual(
      now.concerns?.map(({ id }) => id),
      ['lost-subnet'],
    );
    assert.equal((await fetchInside('http://127.0.0.1:8081/readyz')).status, 200);
    assert.match((await fetchInside('http://127.0.0.1:8081/metrics')).body, /^flannel_leases_lost_total 1$/m);
    const [address] = next.split('/');
    assert.match(readFileSync(files.subnetFile, 'utf8'), new RegExp(`FLANNEL_SUBNET=${address.replace(/0$/, '1')}/24`));
    const { stdout: addresses } = await node.exec('ip', ['-o', '-4', 'address', 'show', 'dev', 'flannel0']);
    assert.deepEqual(
      [...addresses.matchAll(/inet (\S+)/g)].map(([, shown]) => shown),
      [`${address}/32`],
    );
    const left = await traces();
    assert.ok(!left.includes(subnet), left);
    assert.match(left, new RegExp(`^blackhole ${next.replaceAll('.', '\\.')}`, 'm'));
    await daemon.stop();
  });
});

describe('a second daemon', () => {
  test('whose port is taken ends with one line', async () => {
    await configure(GOOD);
    const holder = node.spawn(process.execPath, [
      '-e',
      "require('node:dgram').createSocket('udp4').bind(8285, '192.0.2.1', () => console.log('bound'))",
    ]);
    await new Promise((resolve) => holder.stdout?.once('data', resolve));
    try {
      const daemon = start();
      assert.equal((await daemon.ended).code, 1);
      assert.deepEqual(daemon.lines.filter((line) => / ERROR /.test(line)).length, 1, daemon.lines.join('\n'));
      assert.match(daemon.lines.at(-1) ?? '', /8285/);
      daemon.assertNoStackTrace();
    } finally {
      holder.kill();
    }
  });
});

describe('--cleanup', () => {
  test('is refused while the daemon lives, and then takes everything away', async () => {
    await configure(GOOD);
    const daemon = start('--ip-masq', '--ip-blackhole-route');
    await daemon.ready();
    const refused = start('--cleanup');
    assert.equal((await refused.ended).code, 1);
    assert.match(refused.lines.join('\n'), new RegExp(`^flanneld: .*pid ${daemon.pid}\\b`));
    const elsewhere = run([...files.flags(etcd.endpoints, '--cleanup'), `--control-socket=${files.folder}/other.sock`]);
    assert.equal((await elsewhere.ended).code, 1);
    assert.match(elsewhere.lines.join('\n'), /^flanneld: .*flannel0.* in use/);
    await daemon.stop();

    const before = await traces();
    for (const trace of [/flannel0/, /^blackhole 10\.5\./m, /MASQUERADE/, /FLANNEL-FWD/]) assert.match(before, trace);
    const cleanup = start('--cleanup');
    assert.equal((await cleanup.ended).code, 0, cleanup.lines.join('\n'));
    assert.ok(cleanup.stdout.length >= 3, cleanup.stdout.join('\n'));
    assert.doesNotMatch(await traces(), /flannel|10\.5\./i);
    assert.ok(!existsSync(files.subnetFile));

    const again = start('--cleanup');
    assert.equal((await again.ended).code, 0);
    assert.match(again.stdout.join('\n'), /^nothing/);
  });
});

describe('a file where the control socket should be', () => {
  test('is not overwritten', async () => {
    const path = join(files.folder, 'file');
    writeFileSync(path, 'precious');
    const daemon = run(['--etcd-endpoints=http://127.0.0.1:1', `--control-socket=${path}`]);
    assert.equal((await daemon.ended).code, 1);
    assert.equal(readFileSync(path, 'utf8'), 'precious');
    daemon.assertNoStackTrace();
  });
});

/** What a network leaves on a host: devices, routes, rules. */
async function traces(): Promise<string> {
  const outputs = await Promise.all(
    [
      ['ip', '-o', 'link'],
      ['ip', 'route', 'show', 'table', 'all', 'type', 'unicast'],
      ['ip', 'route', 'show', 'type', 'blackhole'],
      ['iptables-save'],
      ['nft', 'list', 'tables'],
    ].map(([command, ...args]) => node.exec(command, args, { allowFailure: true })),
  );
  return outputs.map(({ stdout }) => stdout).join('\n');
}

/** Receives datagrams on a unix socket, as systemd does. */
function listenDatagrams(path: string): { text: () => string; stop: () => void } {
  const script = [
    'import socket, sys',
    's = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)',
    's.bind(sys.argv[1])',
    'while True: print(s.recv(4096).decode(), flush=True)',
  ].join('\n');
  let receiver: ChildProcess;
  if (existsSync('/usr/bin/socat')) {
    receiver = spawn('socat', ['-u', `UNIX-RECV:${path}`, 'STDOUT'], { stdio: ['ignore', 'pipe', 'inherit'] });
  } else {
    receiver = spawn('python3', ['-c', script, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  }
  let text = '';
  receiver.stdout?.on('data', (data) => (text += String(data)));
  return { text: () => text, stop: () => receiver.kill() };
}
