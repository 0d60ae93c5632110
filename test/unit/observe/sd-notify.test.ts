import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { silentLogger } from '../../../src/log.js';
import { ServiceNotifier } from '../../../src/observe/sd-notify.js';

function notifier(environment: Record<string, string>): { sent: string[]; notifier?: ServiceNotifier } {
  const sent: string[] = [];
  return {
    sent,
    notifier: ServiceNotifier.create(environment, (path, message) => sent.push(`${path} ${message}`), silentLogger),
  };
}

describe('systemd', () => {
  test('is told nothing where it does not listen', () => {
    assert.equal(notifier({}).notifier, undefined);
    assert.equal(notifier({ NOTIFY_SOCKET: '' }).notifier, undefined);
    assert.equal(notifier({ NOTIFY_SOCKET: 'relative' }).notifier, undefined);
  });

  test('is told of readiness, changes of status and the stop', () => {
    const { sent, notifier: systemd } = notifier({ NOTIFY_SOCKET: '@abstract' });
    systemd?.status('waiting for\n etcd');
    systemd?.status('waiting for\n etcd');
    systemd?.ready('10.5.1.0/24');
    systemd?.status('10.5.1.0/24');
    systemd?.stopping();
    assert.deepEqual(sent, [
      '@abstract STATUS=waiting for etcd',
      '@abstract READY=1\nSTATUS=10.5.1.0/24',
      '@abstract STOPPING=1\nSTATUS=stopping',
    ]);
  });

  test('gets a sign of life when it watches this process, and none when it watches another', () => {
    const socket = { NOTIFY_SOCKET: '/run/x', WATCHDOG_USEC: '20000000' };
    assert.deepEqual(notifier(socket).sent, ['/run/x WATCHDOG=1']);
    assert.deepEqual(notifier({ ...socket, WATCHDOG_PID: String(process.pid) }).sent, ['/run/x WATCHDOG=1']);
    assert.deepEqual(notifier({ ...socket, WATCHDOG_PID: '1' }).sent, []);
    assert.deepEqual(notifier({ ...socket, WATCHDOG_USEC: 'often' }).sent, []);
  });

  test('keeps getting signs of life, more often than it asks for', async () => {
    const { sent, notifier: systemd } = notifier({ NOTIFY_SOCKET: '/run/x', WATCHDOG_USEC: '20000' });
    while (sent.length < 4) await new Promise((resolve) => setTimeout(resolve, 5));
    systemd?.stopping();
    const after = sent.length;
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(sent.length, after);
  });

  test('that does not listen is complained about once', () => {
    const complaints: string[] = [];
    const failing = ServiceNotifier.create(
      { NOTIFY_SOCKET: '/run/x' },
      () => {
        throw new Error('ECONNREFUSED');
      },
      { ...silentLogger, warn: (message) => complaints.push(message) },
    );
    failing?.status('a');
    failing?.ready('b');
    assert.equal(complaints.length, 1);
  });
});
