import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CommandError, type RunCommand } from '../../../src/host/command.js';
import { listPolicyRules, lookUpRoute } from '../../../src/host/route-lookup.js';
import { ip } from '../../support/addresses.js';

/** An `ip` that answers this, and notes what it was asked. */
function answering(stdout: unknown, asked: string[] = []): RunCommand {
  return (_command, args) => {
    asked.push(args.join(' '));
    return Promise.resolve({ stdout: JSON.stringify(stdout), stderr: '', status: 0 });
  };
}

function failing(stderr: string): RunCommand {
  return () => Promise.reject(new CommandError(stderr, 'failed', { stdout: '', stderr, status: 2 }));
}

test('a route is read with its gateway, source and path MTU', async () => {
  const asked: string[] = [];
  const shown = [
    { dst: '192.0.2.9', gateway: '192.0.2.1', dev: 'eth0', prefsrc: '192.0.2.7', metrics: [{ mtu: 1400 }] },
  ];
  const question = { destination: ip('192.0.2.9'), source: ip('10.5.1.2'), inDevice: 'cni0' };
  assert.deepEqual(await lookUpRoute(question, answering(shown, asked)), {
    kind: 'forward',
    device: 'eth0',
    gateway: ip('192.0.2.1'),
    source: ip('192.0.2.7'),
    mtuBytes: 1400,
  });
  assert.deepEqual(asked, ['-json -4 route get 192.0.2.9 from 10.5.1.2 iif cni0']);
  const local = await lookUpRoute({ destination: ip('192.0.2.7') }, answering([{ type: 'local', dev: 'lo' }]));
  assert.equal(local.kind, 'local');
});

for (const [complaint, reason] of [
  ['RTNETLINK answers: Network is unreachable', 'no-route'],
  ['RTNETLINK answers: No route to host', 'unreachable'],
  ['RTNETLINK answers: Invalid argument', 'unreachable'],
  ['RTNETLINK answers: Permission denied', 'unreachable'],
  ['RTNETLINK answers: Invalid cross-device link', 'reverse-path'],
]) {
  test(`the kernel's "${complaint}" is ${reason}`, async () => {
    const answer = await lookUpRoute({ destination: 1 }, failing(`${complaint}\n`));
    assert.deepEqual(answer, { kind: 'refused', reason, text: complaint.replace('RTNETLINK answers: ', '') });
  });
}

test('a complaint about anything else is an error', async () => {
  await assert.rejects(lookUpRoute({ destination: 1 }, failing('Cannot open netlink socket')), CommandError);
});

test('the three rules of every host are left out', async () => {
  const rules = [
    { priority: 0, src: 'all', table: 'local' },
    { priority: 100, src: '10.5.1.0', srclen: 24, table: '7' },
    { priority: 200, src: 'all', fwmark: '0x1', table: 'main' },
    { priority: 32766, src: 'all', table: 'main' },
    { priority: 32767, src: 'all', table: 'default' },
  ];
  assert.deepEqual(await listPolicyRules(answering(rules)), [
    { priority: 100, text: 'src 10.5.1.0 srclen 24 table 7' },
    { priority: 200, text: 'src all fwmark 0x1 table main' },
  ]);
});
