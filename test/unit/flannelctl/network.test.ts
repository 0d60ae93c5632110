import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { flannelctl, temporaryFolder } from '../../support/flannelctl.js';

const GOOD = '{"Network": "10.5.0.0/16", "Backend": {"Type": "udp", "Port": 9000, "MTU": 1400}}';

test('network check shows a good configuration with its defaults, from a file, standard input or the command line', async (t) => {
  const file = join(await temporaryFolder(t), 'net-conf.json');
  await writeFile(file, GOOD);
  const inline = await flannelctl(['network', 'check', GOOD]);
  assert.equal(inline.status, 0, inline.stderr);
  assert.equal(
    inline.stdout,
    [
      'Network         10.5.0.0/16',
      'SubnetLen       24',
      'SubnetMin       10.5.1.0',
      'SubnetMax       10.5.255.0',
      'Subnets         255',
      'EnableIPv4      true',
      'EnableIPv6      false',
      'EnableNFTables  false',
      'Backend.Type    udp',
      'Backend.Port    9000',
      'Backend.MTU     1400',
      '',
    ].join('\n'),
  );
  assert.deepEqual(await flannelctl(['network', 'check', file]), inline);
  assert.deepEqual(await flannelctl(['network', 'check', '-'], { stdin: `${GOOD}\n` }), inline);
});

test('network check --json is the configuration with its defaults, under the keys it is written with', async () => {
  const { stdout } = await flannelctl(['network', 'check', '--json', GOOD]);
  assert.deepEqual(JSON.parse(stdout), {
    Network: '10.5.0.0/16',
    SubnetLen: 24,
    SubnetMin: '10.5.1.0',
    SubnetMax: '10.5.255.0',
    EnableIPv4: true,
    EnableIPv6: false,
    EnableNFTables: false,
    Backend: { Type: 'udp', Port: 9000, MTU: 1400 },
  });
  // What it prints is itself a configuration that means the same.
  assert.equal((await flannelctl(['network', 'check', '--json', stdout])).stdout, stdout);
});

test('network check warns about keys that nothing reads', async () => {
  const { status, stderr } = await flannelctl([
    'network',
    'check',
    '{"Network": "10.5.0.0/16", "SubnetLength": 20, "Backend": {"Type": "udp", "VNI": 1}}',
  ]);
  assert.equal(status, 0);
  assert.match(stderr, /^flannelctl: warning: nothing reads SubnetLength, Backend\.VNI/);
});

test('a misspelt key is named also where the configuration is refused for lack of the right one', async () => {
  const { status, stderr } = await flannelctl(['network', 'check', '{"Netwrk": "10.5.0.0/16"}']);
  assert.equal(status, 1);
  assert.match(stderr, /^flannelctl: warning: nothing reads Netwrk [^\n]+\nflannelctl: Network is missing[^\n]+\n$/);
});

const REFUSED: readonly { text: string; line: RegExp }[] = [
  { text: '{not json', line: /not JSON/ },
  { text: '{}', line: /Network/ },
  { text: '{"Network": "10.5.0.0"}', line: /10\.5\.0\.0/ },
  { text: '{"Network": "10.5.0.0/29"}', line: /10\.5\.0\.0\/29/ },
  { text: '{"Network": "10.5.0.0/16", "SubnetLen": 17}', line: /SubnetLen 17/ },
  { text: '{"Network": "10.5.0.0/16", "SubnetLen": 31}', line: /SubnetLen 31/ },
  { text: '{"Network": "10.5.0.0/16", "SubnetMin": "10.6.0.0"}', line: /SubnetMin/ },
  { text: '{"Network": "10.5.0.0/16", "SubnetMax": "10.5.9.1"}', line: /SubnetMax/ },
  { text: '{"Network": "10.5.0.0/16", "SubnetMin": "10.5.9.0", "SubnetMax": "10.5.8.0"}', line: /SubnetMin/ },
  { text: '{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}', line: /vxlan/ },
  { text: '{"Network": "10.5.0.0/16", "Backend": "udp"}', line: /Backend/ },
  { text: '{"Network": "10.5.0.0/16", "Backend": {"Type": "udp", "Port": 99999}}', line: /99999/ },
  {
    text: '{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fc00::/48"}',
    line: /EnableIPv6 is true, but the udp backend carries IPv4 only/,
  },
];

for (const { text, line } of REFUSED) {
  test(`network check refuses ${text} in one line`, async () => {
    const { status, stdout, stderr } = await flannelctl(['network', 'check', text]);
    assert.deepEqual({ status, stdout }, { status: 1, stdout: '' });
    assert.match(stderr, /^flannelctl: [^\n]+\n$/);
    assert.match(stderr, line);
  });
}

for (const text of ['null', '[]', 'true', '']) {
  test(`network check refuses ${JSON.stringify(text)} on standard input`, async () => {
    const { status, stderr } = await flannelctl(['network', 'check', '-'], { stdin: text });
    assert.equal(status, 1);
    assert.match(stderr, /^flannelctl: the network configuration is [^\n]+\n$/);
  });
}

test('a file that cannot be read is one line', async (t) => {
  const folder = await temporaryFolder(t);
  const absent = await flannelctl(['network', 'check', join(folder, 'absent.json')]);
  assert.deepEqual({ status: absent.status, stdout: absent.stdout }, { status: 1, stdout: '' });
  assert.match(absent.stderr, /^flannelctl: cannot read .*absent\.json: no such file\n$/);
  const directory = await flannelctl(['network', 'check', folder]);
  assert.match(directory.stderr, /^flannelctl: cannot read [^\n]*\n$/);
});
