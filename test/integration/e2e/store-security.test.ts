/** TLS and passwords, through the flags that flannel has for them. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { runCommand } from '../../../src/host/command.js';
import { makeCertificates } from '../../harness/certificates.js';
import { Cluster, ETCD_ADDRESS, NETWORK, type ClusterNode } from '../../harness/cluster.js';
import { FLANNELCTL, FLANNELD, type DaemonOptions } from '../../harness/daemon.js';
import { namePrefix } from '../../harness/leftovers.js';
import { assertTrafficArrives, untilReached } from '../../harness/pod-traffic.js';
import { until } from '../../harness/until.js';

const SECRET = 'correct horse battery staple';
const PORTS = { password: 2379, tls: 2381, mutualTls: 2382 };
const CONFIG = `{"Network": "${NETWORK}"}`;

describe('a store that protects itself', () => {
  let cluster: Cluster;
  const folder = mkdtempSync(join(tmpdir(), `${namePrefix('certificates')}-`));
  const path = (file: string): string => join(folder, file);

  before(async () => {
    makeCertificates(folder);
    const tls = { certFile: path('server.pem'), keyFile: path('server-key.pem') };
    cluster = await Cluster.create('secure', { nodes: 5 });
    const servers = await Promise.all([
      cluster.addEtcd(PORTS.tls, { tls }),
      cluster.addEtcd(PORTS.mutualTls, { tls: { ...tls, clientCaFile: path('ca.pem') } }),
    ]);
    for (const server of servers) await server.put('/coreos.com/network/config', CONFIG);
    await cluster.etcd.addUser('flannel', SECRET, '/coreos.com/network/');
    // What docs/security.md asks for.
    await cluster.etcd.addUser('node', SECRET, '/coreos.com/network/subnets/');
    await cluster.etcd.allowPrefix('node', '/coreos.com/network/probes/', 'READWRITE');
    await cluster.etcd.allowReading('node', '/coreos.com/network/config');
    // The same without probes/.
    await cluster.etcd.addUser('carrier', SECRET, '/coreos.com/network/subnets/');
    await cluster.etcd.allowReading('carrier', '/coreos.com/network/config');
    await cluster.etcd.addUser('reader', 'reads', '/coreos.com/network/', 'READ');
    await cluster.etcd.enableAuth('root');
  });
  after(async () => {
    await cluster?.dispose();
    rmSync(folder, { recursive: true, force: true });
  });

  const tlsEndpoint = (port: number): string => `--etcd-endpoints=https://${ETCD_ADDRESS}:${port}`;

  async function assertServed(node: ClusterNode, flags: readonly string[], options: DaemonOptions = {}): Promise<void> {
    const daemon = await node.start(flags, options);
    assert.ok((await daemon.status()).store.healthy);
    await daemon.stop();
  }

  /** One clear line, and the daemon stays. */
  async function assertRefused(node: ClusterNode, flags: readonly string[], says: RegExp): Promise<void> {
    const daemon = node.launch(flags);
    const line = await daemon.saying(says);
    await sleep(2_500);
    assert.ok(daemon.running, daemon.evidence);
    const reason = line.replace(/^\S+ /, '');
    assert.equal(daemon.lines.filter((other) => other.endsWith(reason)).length, 1, daemon.output);
    assert.equal(daemon.said(/ (WARN|ERROR) /).length, 1, daemon.output);
    assert.doesNotMatch(daemon.output, /\n\s+at /);
  }

  describe('lets in and keeps out', { concurrency: 5 }, () => {
    test('a user whose role may touch the prefix only is enough', () =>
      cluster.withNode((node) => assertServed(node, ['--etcd-username=flannel', `--etcd-password=${SECRET}`])));

    test('a role that may read the configuration and write leases is enough, with the password in a file', () =>
      cluster.withNode(async (node) => {
        writeFileSync(path('password'), `${SECRET}\n`, { mode: 0o600 });
        const login = ['--etcd-username=node', `--etcd-password-file=${path('password')}`];
        await assertServed(node, login);
        const list = [FLANNELCTL, 'leases', '--from-store', `--etcd-endpoints=${cluster.endpoint}`, ...login];
        const { stdout } = await node.namespace.exec(list[0], list.slice(1));
        assert.match(stdout, new RegExp(node.address));
      }));

    test('a secret is in no log, status, help or process list, given by file or environment', () =>
      cluster.withNode(async (node) => {
        writeFileSync(path('secret'), `${SECRET}\n`, { mode: 0o600 });
        const given: readonly (readonly [flags: readonly string[], environment: Record<string, string>])[] = [
          [[`--etcd-password-file=${path('secret')}`], {}],
          [[], { FLANNELD_ETCD_PASSWORD: SECRET }],
        ];
        for (const [flags, environment] of given) {
          const daemon = await node.start(['-v=9', '--ip-masq', '--etcd-username=node', ...flags], { environment });
          const shown = [
            ['the log', daemon.output],
            ['the status', JSON.stringify(await daemon.status())],
            ['the leases', JSON.stringify(await daemon.ask('/v1/leases'))],
            ['the help', (await node.namespace.exec(FLANNELD, ['--help'], { environment })).stdout],
            ...processesOf(node),
          ] as const;
          for (const [where, text] of shown) assert.ok(!text.includes(SECRET), where);
          assert.ok(shown.length > 4);
          await daemon.stop();
          assert.ok(!daemon.output.includes(SECRET));
        }
      }));

    test('user and password are taken from the environment too', () =>
      cluster.withNode((node) => {
        const environment = { FLANNELD_ETCD_USERNAME: 'flannel', FLANNELD_ETCD_PASSWORD: SECRET };
        return assertServed(node, [], { environment });
      }));

    test('a wrong password is one clear line, and the daemon stays', () =>
      cluster.withNode((node) =>
        assertRefused(
          node,
          ['--etcd-username=flannel', '--etcd-password=wrong'],
          /(WARN|ERROR).*(user|password|authentication)/i,
        ),
      ));

    test('no user at all is one clear line, and the daemon stays', () =>
      cluster.withNode((node) => assertRefused(node, [], /(WARN|ERROR).*(user|password|authentication)/i)));

    test('a user that may not write is one clear line, and the daemon stays', () =>
      cluster.withNode((node) =>
        assertRefused(
          node,
          ['--etcd-username=reader', '--etcd-password=reads'],
          /(WARN|ERROR).*(permission|may not|denied)/i,
        ),
      ));

    test('with TLS, the authority alone is enough', () =>
      cluster.withNode((node) => assertServed(node, [tlsEndpoint(PORTS.tls), `--etcd-cafile=${path('ca.pem')}`])));

    test('a server of another authority is not trusted', () =>
      cluster.withNode((node) =>
        assertRefused(
          node,
          [tlsEndpoint(PORTS.tls), `--etcd-cafile=${path('other-ca.pem')}`],
          /(WARN|ERROR).*certificate/i,
        ),
      ));

    test('a file that is not there is named', () =>
      cluster.withNode(async (node) => {
        const daemon = node.launch([tlsEndpoint(PORTS.tls), '--etcd-cafile=/nowhere/ca.pem']);
        await daemon.saying(/\/nowhere\/ca\.pem/);
        assert.doesNotMatch(daemon.output, /\n\s+at /);
      }));

    test('a client certificate of the right authority is let in', () =>
      cluster.withNode((node) =>
        assertServed(node, [
          ...[tlsEndpoint(PORTS.mutualTls), `--etcd-cafile=${path('ca.pem')}`],
          ...[`--etcd-certfile=${path('client.pem')}`, `--etcd-keyfile=${path('client-key.pem')}`],
        ]),
      ));

    test('without the client certificate that is asked for, it is refused', () =>
      cluster.withNode((node) =>
        assertRefused(node, [tlsEndpoint(PORTS.mutualTls), `--etcd-cafile=${path('ca.pem')}`], /(WARN|ERROR).*etcd/i),
      ));
  });

  test('the password is printed nowhere', () =>
    cluster.withNode(async (node) => {
      const daemon = await node.start(['--etcd-username=flannel', `--etcd-password=${SECRET}`, '-v=10']);
      const socket = `--socket=${daemon.controlSocket}`;
      const shown = await Promise.all([
        runCommand(FLANNELCTL, ['status', socket]),
        runCommand(FLANNELCTL, ['status', '--json', socket]),
      ]);
      assert.doesNotMatch(JSON.stringify(shown) + daemon.output, /battery staple/);
    }));

  test('nodes whose role may not touch probes/ carry packets, and say that they take no part in probes', async () => {
    const nodes = cluster.nodes.slice(0, 2);
    const login = ['--etcd-username=carrier', `--etcd-password=${SECRET}`];
    await Promise.all(nodes.map((node) => node.start(login)));
    const [one, other] = [await nodes[0].addPod(), await nodes[1].addPod()];
    await untilReached(one, other);
    await assertTrafficArrives(one, other);
    for (const { running } of nodes) {
      await running.saying(/takes no part in flannelctl probe: .*permission/i);
      assert.deepEqual(running.said(/ (WARN|ERROR) /), [], running.output);
    }
    await Promise.all(nodes.map((node) => node.running.stop()));
  });

  test('a daemon goes on when etcd has forgotten its login', () =>
    cluster.withNode(async (node) => {
      const daemon = await node.start(['--etcd-username=flannel', `--etcd-password=${SECRET}`]);
      const before = (await daemon.ask('/v1/leases')).length;
      await cluster.etcd.restart();
      await cluster.putLease('10.5.240.0/24', '192.168.64.240');
      await until('the new lease is known', async () => (await daemon.ask('/v1/leases')).length > before, {
        evidence: () => daemon.evidence,
      });
    }));
});

/** The command line of every process that runs in a node's namespace. */
function processesOf(node: ClusterNode): (readonly [where: string, text: string])[] {
  return execFileSync('ip', ['netns', 'pids', node.namespace.name], { encoding: 'utf8' })
    .split(/\s+/)
    .filter(Boolean)
    .flatMap((pid) => {
      try {
        return [[`process ${pid}`, readFileSync(`/proc/${pid}/cmdline`, 'utf8')] as const];
      } catch {
        return []; // it has ended meanwhile
      }
    });
}
