import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OWN_FLANNELD } from '../../../src/lab/daemon.js';
import { planLab } from '../../../src/lab/plan.js';
import { bootId, recordProcess } from '../../../src/lab/process-record.js';
import type { LabState } from '../../../src/lab/state.js';
import { statusOf } from '../../../src/lab/status.js';

test('the status names the flanneld that was started, not the one of the checkout that asks', () => {
  const plan = planLab({ flanneld: new Map([['node3', '/usr/local/bin/flanneld']]) });
  const own = recordProcess(process.pid);
  assert.ok(own !== undefined);
  const path = '/elsewhere/bin/flanneld';
  const state: LabState = {
    format: 1,
    plan,
    createdAt: new Date().toISOString(),
    bootId: bootId(),
    owner: null,
    phase: 'up',
    processes: [{ ...own, program: 'flanneld', place: 'node1', path }],
  };
  const programs = statusOf(state).nodes.map(({ flanneld }) => [flanneld.program, flanneld.running]);
  assert.deepEqual(programs, [
    [path, true],
    [OWN_FLANNELD, false],
    ['/usr/local/bin/flanneld', false],
  ]);
});
