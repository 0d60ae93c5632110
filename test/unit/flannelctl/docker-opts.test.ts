import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { flannelctl, temporaryFolder } from '../../support/flannelctl.js';

const SUBNET_ENV = 'FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.34.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n';

const INDIVIDUAL =
  'DOCKER_OPT_BIP="--bip=10.5.34.1/24"\nDOCKER_OPT_IPMASQ="--ip-masq=false"\nDOCKER_OPT_MTU="--mtu=1472"\n';
const COMBINED = 'DOCKER_OPTS=" --bip=10.5.34.1/24 --ip-masq=false --mtu=1472"\n';

const CASES: readonly {
  name: string;
  subnetEnv?: string;
  args?: string[];
  env?: Record<string, string>;
  file: string;
}[] = [
  { name: 'both forms without -i or -c', file: INDIVIDUAL + COMBINED },
  { name: 'both forms with -ic', args: ['-ic'], file: INDIVIDUAL + COMBINED },
  { name: '-i alone', args: ['-i'], file: INDIVIDUAL },
  { name: '-c alone', args: ['-c'], file: COMBINED },
  { name: '-k names the combined variable', args: ['-c', '-k', 'OPTS'], file: COMBINED.replace('DOCKER_OPTS', 'OPTS') },
  { name: '-m leaves masquerading out', args: ['-c', '-m'], file: COMBINED.replace(' --ip-masq=false', '') },
  {
    name: 'Docker masquerades when flanneld does not',
    subnetEnv: SUBNET_ENV.replace('=true', '=false'),
    args: ['-c'],
    file: COMBINED.replace('masq=false', 'masq=true'),
  },
  {
    name: "the caller's own options are kept",
    args: ['-c'],
    env: { DOCKER_OPTS: '--debug' },
    file: COMBINED.replace('" ', '"--debug  '),
  },
  {
    name: "the caller's own variables are kept and sorted in",
    env: { DOCKER_OPT_LOG: '--log-level=warn', DOCKER_OPT_BIP: '--bip=192.0.2.1/24' },
    args: ['-i'],
    file: INDIVIDUAL.replace('DOCKER_OPT_MTU', 'DOCKER_OPT_LOG="--log-level=warn"\nDOCKER_OPT_MTU'),
  },
  {
    name: 'quotes and other lines in subnet.env',
    subnetEnv: '# by hand\nFLANNEL_MTU="1400"\n\n',
    args: ['-i'],
    file: 'DOCKER_OPT_MTU="--mtu=1400"\n',
  },
  { name: 'nothing known', subnetEnv: '', file: 'DOCKER_OPTS=""\n' },
];

for (const { name, subnetEnv = SUBNET_ENV, args = [], env = {}, file } of CASES) {
  test(`docker-opts writes the file of flannel's script: ${name}`, async (t) => {
    const folder = await temporaryFolder(t);
    const source = join(folder, 'subnet.env');
    const target = join(folder, 'docker_opts.env');
    await writeFile(source, subnetEnv);
    const result = await flannelctl(['docker-opts', '-f', source, '-d', target, ...args], { env });
    assert.equal(result.status, 0, result.stderr);
    assert.equal(result.stdout, '');
    assert.equal(await readFile(target, 'utf8'), file);

    // The original, where the machine has one, must write the same bytes.
    const original = process.env.FLANNEL_MK_DOCKER_OPTS;
    if (original === undefined) return;
    const theirs = join(folder, 'theirs.env');
    const path = process.env.PATH ?? '';
    execFileSync('sh', [original, '-f', source, '-d', theirs, ...args], { env: { PATH: path, ...env } });
    assert.equal(await readFile(theirs, 'utf8'), file);
  });
}

test("flanneld's own variable says where subnet.env is, unless -f does", async (t) => {
  const folder = await temporaryFolder(t);
  const source = join(folder, 'subnet.env');
  await writeFile(source, SUBNET_ENV);
  const env = { FLANNELD_SUBNET_FILE: source };
  assert.equal((await flannelctl(['docker-opts', '-c', '-d', '-'], { env })).stdout, COMBINED);
  const absent = join(folder, 'absent');
  assert.match(
    (await flannelctl(['docker-opts', '-f', absent, '-d', '-'], { env })).stderr,
    /no FLANNEL_SUBNET in .*absent/,
  );
});

test('a subnet.env that is not there yet gives an empty list and a warning', async (t) => {
  const folder = await temporaryFolder(t);
  const target = join(folder, 'docker_opts.env');
  const result = await flannelctl(['docker-opts', '-f', join(folder, 'absent'), '-d', target]);
  assert.equal(result.status, 0);
  assert.match(result.stderr, /^flannelctl: warning: no FLANNEL_SUBNET in .*absent.*\n$/);
  assert.equal(await readFile(target, 'utf8'), 'DOCKER_OPTS=""\n');
});

test('a FLANNEL_IPMASQ that is neither true nor false, and a key that is no name, are refused', async (t) => {
  const folder = await temporaryFolder(t);
  const source = join(folder, 'subnet.env');
  await writeFile(source, SUBNET_ENV.replace('=true', '=maybe'));
  const target = join(folder, 'docker_opts.env');
  const masq = await flannelctl(['docker-opts', '-f', source, '-d', target]);
  assert.equal(masq.status, 1);
  assert.match(masq.stderr, /^flannelctl: FLANNEL_IPMASQ is 'maybe', expected true or false.*\n$/);
  const key = await flannelctl(['docker-opts', '-f', source, '-d', target, '-m', '-k', 'a;b']);
  assert.equal(key.status, 2);
  assert.match(key.stderr, /^flannelctl: --combined-key 'a;b' is not the name of a shell variable\n$/);
});

test('a file that cannot be written is one line', async (t) => {
  const folder = await temporaryFolder(t);
  const result = await flannelctl(['docker-opts', '-f', join(folder, 'absent'), '-d', join(folder, 'no/such/file')]);
  assert.equal(result.status, 1);
  assert.match(result.stderr, /flannelctl: cannot write .*no\/such\/file: no such file or directory\n$/);
});

test('standard output is a file like any other', async (t) => {
  const source = join(await temporaryFolder(t), 'subnet.env');
  await writeFile(source, SUBNET_ENV);
  for (const target of ['-', '/dev/stdout']) {
    const result = await flannelctl(['docker-opts', '-f', source, '-d', target, '-i']);
    assert.deepEqual(result, { status: 0, stdout: INDIVIDUAL, stderr: '' });
  }
});

test('--json says what was written', async (t) => {
  const folder = await temporaryFolder(t);
  const source = join(folder, 'subnet.env');
  const target = join(folder, 'docker_opts.env');
  await writeFile(source, SUBNET_ENV);
  const result = await flannelctl(['docker-opts', '-f', source, '-d', target, '-c', '--json']);
  assert.deepEqual(JSON.parse(result.stdout), {
    file: target,
    variables: {
      DOCKER_OPT_BIP: '--bip=10.5.34.1/24',
      DOCKER_OPT_MTU: '--mtu=1472',
      DOCKER_OPT_IPMASQ: '--ip-masq=false',
    },
    DOCKER_OPTS: ' --bip=10.5.34.1/24 --ip-masq=false --mtu=1472',
  });
});

test('--json for standard output is JSON and nothing else', async (t) => {
  const source = join(await temporaryFolder(t), 'subnet.env');
  await writeFile(source, SUBNET_ENV);
  const { stdout } = await flannelctl(['docker-opts', '-f', source, '-d', '-', '--json']);
  const { file, variables } = JSON.parse(stdout) as { file: string; variables: Record<string, string> };
  assert.equal(file, '-');
  assert.equal(variables.DOCKER_OPT_MTU, '--mtu=1472');
});

test(
  "a route by a gateway to the node's own subnet fails the command",
  { skip: !isRoot() && 'needs root' },
  async (t) => {
    const folder = await temporaryFolder(t);
    const source = join(folder, 'subnet.env');
    await writeFile(source, SUBNET_ENV);
    const namespace = `fctl-${process.pid}`;
    const ip = (...args: string[]): string => execFileSync('ip', args, { encoding: 'utf8' });
    t.after(() => spawnSync('ip', ['netns', 'del', namespace]));
    ip('netns', 'add', namespace);
    ip('-n', namespace, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth1');
    ip('-n', namespace, 'link', 'set', 'eth1', 'up');
    ip('-n', namespace, 'addr', 'add', '192.0.2.1/24', 'dev', 'eth0');
    ip('-n', namespace, 'link', 'set', 'eth0', 'up');
    const main = new URL('../../../src/flannelctl/main.js', import.meta.url).pathname;
    const args = ['docker-opts', '-f', source, '-d', join(folder, 'docker_opts.env')];
    const inside = (): { status: number | null; stderr: string } =>
      spawnSync('ip', ['netns', 'exec', namespace, process.execPath, main, ...args], { encoding: 'utf8' });
    assert.equal(inside().status, 0);
    ip('-n', namespace, 'route', 'add', '10.5.34.0/24', 'via', '192.0.2.7');
    const { status, stderr } = inside();
    assert.equal(status, 1);
    assert.match(
      stderr,
      /^flannelctl: a route by a gateway already leads to 10\.5\.34\.0\/24 \(.*via 192\.0\.2\.7.*\n$/,
    );
  },
);

function isRoot(): boolean {
  return process.getuid?.() === 0;
}
