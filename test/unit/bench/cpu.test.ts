import assert from 'node:assert/strict';
import { test } from 'node:test';
import { countProcessorTime, machineSeconds, processSeconds } from '../../../bench/cpu.js';

test('the machine’s busy time is all but idling, waiting and what a hypervisor took', () => {
  assert.equal(machineSeconds('cpu  100 20 300 9999 7777 4 50 8888 60 0\ncpu0 1 2 3\n'), 4.74);
});

test('work costs the machine and the process that does it', () => {
  const cost = countProcessorTime([process.pid]);
  // A tick is 10 ms; until then nothing can be seen.
  const before = processSeconds([process.pid]);
  for (let spins = 0; processSeconds([process.pid]) < before + 0.05; spins++) assert.ok(spins < 1e8);
  const { machineSeconds: machine, agentSeconds } = cost();
  assert.ok(agentSeconds >= 0.05);
  assert.ok(machine > 0);
});
