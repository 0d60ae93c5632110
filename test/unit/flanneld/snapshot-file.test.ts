import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { SnapshotFile } from '../../../src/flanneld/snapshot-file.js';
import { silentLogger } from '../../../src/log.js';
import { parseIpv4, parsePrefix } from '../../../src/packet/address.js';
import { parseNetworkConfig } from '../../../src/subnet/network-config.js';
import type { StoreSnapshot } from '../../../src/subnet/store-snapshot.js';

const PREFIX = '/coreos.com/network';

function snapshot(publicIp: string): StoreSnapshot {
  const own = {
    subnet: parsePrefix('10.5.34.0/24') ?? assert.fail(),
    publicIp: parseIpv4(publicIp) ?? assert.fail(),
    publicIpv6: null,
    backendType: '',
    reserved: false,
  };
  const config = parseNetworkConfig('{"Network": "10.5.0.0/16"}', { backendTypes: ['udp'] });
  return { prefix: PREFIX, config, own, leases: [own] };
}

describe('the file of a snapshot', () => {
  let folder: string;
  before(() => (folder = mkdtempSync(join(tmpdir(), 'snapshot-file-'))));
  after(() => rmSync(folder, { recursive: true }));

  function fileWithLog(name: string): { path: string; file: SnapshotFile; warnings: string[] } {
    const warnings: string[] = [];
    const path = join(folder, name);
    return { path, file: new SnapshotFile(path, { ...silentLogger, warn: (line) => warnings.push(line) }), warnings };
  }

  test('is read by the next run as it was written last, and by root only', async () => {
    const { path, file, warnings } = fileWithLog('written');
    assert.equal(await file.read(PREFIX), undefined);
    let now = snapshot('192.0.2.1');
    file.follow(() => now);
    await file.flush();
    now = snapshot('192.0.2.2');
    file.changed();
    await file.flush();
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.deepEqual(await file.read(PREFIX), now);
    assert.deepEqual(warnings, []);
  });

  test('is written once for many changes, and not while there is nothing whole to write', async () => {
    const { path, file } = fileWithLog('many');
    let asked = 0;
    file.follow(() => (++asked === 1 ? undefined : snapshot('192.0.2.1')));
    await file.flush();
    assert.throws(() => statSync(path), /ENOENT/);
    for (let change = 0; change < 1000; change++) file.changed();
    await file.flush();
    await file.flush();
    assert.equal(asked, 2);
    assert.match(readFileSync(path, 'utf8'), /^flannelette-snapshot 1\n/);
  });

  const useless: [string, string, RegExp][] = [
    ['unreadable', 'nonsense\0', /no snapshot/],
    ['of another release', 'flannelette-snapshot 99\n', /version 99/],
  ];
  for (const [what, text, reason] of useless) {
    test(`is passed over with one line when it is ${what}`, async () => {
      const { path, file, warnings } = fileWithLog('useless');
      writeFileSync(path, text);
      assert.equal(await file.read(PREFIX), undefined);
      assert.equal(warnings.length, 1);
      assert.match(warnings[0], reason);
      assert.ok(warnings[0].includes(path));
    });
  }

  test('is passed over with one line when it is of another network', async () => {
    const { file, warnings } = fileWithLog('other');
    file.follow(() => snapshot('192.0.2.1'));
    await file.flush();
    assert.equal(await file.read('/other'), undefined);
    assert.match(warnings.join(), /of the network at \/coreos\.com\/network/);
  });

  test('says once that it cannot be written', async () => {
    const { file, warnings } = fileWithLog('other/below/a/file');
    file.follow(() => snapshot('192.0.2.1'));
    await file.flush();
    file.changed();
    await file.flush();
    assert.equal(warnings.length, 1);
    assert.match(warnings[0], /cannot be written/);
  });
});
