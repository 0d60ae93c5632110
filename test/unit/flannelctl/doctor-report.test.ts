import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type CheckResult, fail, ok, skip } from '../../../src/debug/doctor/check.js';
import { doctorReport } from '../../../src/flannelctl/doctor-report.js';
import { paintFor } from '../../../src/flannelctl/paint.js';

const PAINT = paintFor({ write: () => true }, {});
const skipped = (...ids: string[]): CheckResult[] => ids.map((id) => ({ id, ...skip('the agent does not answer') }));
const AGENT: CheckResult = { id: 'agent', ...fail('no flanneld at /x', 'start it') };

test('a few skipped checks say why, each in its line', () => {
  assert.deepEqual(doctorReport([AGENT, ...skipped('lease')], PAINT), [
    'fail  agent  no flanneld at /x',
    '             → start it',
    'skip  lease  the agent does not answer',
    '',
    '1 failed, 0 warnings, 1 skipped',
  ]);
});

test('many are one line, below what can be told', () => {
  const forwarding: CheckResult = { id: 'forwarding', ...ok('net.ipv4.ip_forward is on') };
  assert.deepEqual(
    doctorReport([AGENT, ...skipped('lease', 'public-ip', 'device'), forwarding, ...skipped('mtu')], PAINT),
    [
      'fail  agent       no flanneld at /x',
      '                  → start it',
      'ok    forwarding  net.ipv4.ip_forward is on',
      'skip  4 checks had nothing to look at: lease, public-ip, device, mtu',
      '',
      '1 failed, 0 warnings, 4 skipped',
    ],
  );
});
