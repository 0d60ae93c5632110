import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readlinkSync } from 'node:fs';
import { test } from 'node:test';
import {
  DESCRIPTOR_WORDS,
  ERROR,
  MAX_PACKET_BYTES,
  SENT_BYTES,
  SENT_PACKETS,
} from '../../../src/dataplane/descriptors.js';
import {
  closeFd,
  DecapBatch,
  deviceDeleted,
  EncapBatch,
  openTun,
  openUdp,
  openWakeup,
  pathMtu,
  setTunPersistent,
  signalWakeup,
} from '../../../src/dataplane/native.js';
import { notifySocket } from '../../../src/dataplane/passed-descriptors.js';
import { FlannelError } from '../../../src/errors.js';
import { ip } from '../../support/addresses.js';

const loopback = ip('127.0.0.1');

test('arguments are checked before the native code sees them', () => {
  const batch = {
    arena: Buffer.alloc(1),
    descriptors: new Int32Array(0),
    tunFd: 0,
    socketFd: 0,
    wakeupFd: 0,
    offloads: 0,
  };
  const wrong: [string, RegExp, () => unknown][] = [
    ['a name', /"name"/, () => openTun({ name: 'a b', queues: 1, virtio: true })],
    ['a long name', /"name"/, () => openTun({ name: 'x'.repeat(16), queues: 1, virtio: true })],
    ['queues', /"queues" to be an integer from 1 to 64, got 0/, () => openTun({ queues: 0, virtio: true })],
    ['an address', /"address"/, () => openUdp({ address: -1, port: 1, sockets: 1 })],
    ['a port', /"port"/, () => openUdp({ address: 0, port: 65536, sockets: 1 })],
    ['sockets', /"sockets"/, () => openUdp({ address: 0, port: 1, sockets: 1.5 })],
    ['a descriptor', /"fd"/, () => setTunPersistent(Number.NaN, true)],
    ['a source', /"source"/, () => pathMtu(2 ** 32, 0)],
    ['a path', /"path"/, () => notifySocket('relative', '')],
    ['an arena', /"arena"/, () => new EncapBatch({ ...batch, arena: new Uint8Array(1) as Buffer })],
    ['descriptors', /multiple of 16/, () => new DecapBatch({ ...batch, descriptors: new Int32Array(17) })],
    ['an arena without room', /"arena"/, () => new EncapBatch(batch)],
    ['a socket', /"socketFd"/, () => new DecapBatch({ ...batch, socketFd: -1 })],
  ];
  for (const [what, message, call] of wrong) {
    assert.throws(
      call,
      (error) => error instanceof TypeError && /^Expected /.test(error.message) && message.test(error.message),
      what,
    );
  }
});

test('a port in use, and an address that is not here, are refused in one line that says what to do', async () => {
  const holder = createSocket('udp4').bind(0, '127.0.0.1');
  await once(holder, 'listening');
  const { port } = holder.address();
  try {
    for (const sockets of [1, 2]) {
      assert.throws(
        () => openUdp({ address: loopback, port, sockets }),
        new FlannelError('HOST', `UDP 127.0.0.1:${port} is in use by another process: is another flanneld running?`),
      );
    }
  } finally {
    holder.close();
  }
  assert.throws(() => openUdp({ address: ip('192.0.2.1'), port: 0, sockets: 1 }), /192\.0\.2\.1:0.*no interface/);
});

test('a port that several of our own sockets share is in use for everyone else', async () => {
  const probe = createSocket('udp4').bind(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  await new Promise<void>((resolve) => probe.close(resolve));
  const fds = openUdp({ address: loopback, port, sockets: 3 });
  try {
    assert.equal(new Set(fds).size, 3);
    for (const sockets of [1, 2]) assert.throws(() => openUdp({ address: loopback, port, sockets }), /in use/);
  } finally {
    fds.forEach(closeFd);
  }
});

test('descriptors are closed for good', () => {
  const fd = openWakeup();
  assert.match(readlinkSync(`/proc/self/fd/${fd}`), /eventfd/);
  closeFd(fd);
  assert.throws(() => readlinkSync(`/proc/self/fd/${fd}`), /ENOENT/);
});

test('the MTU of a path is known, and that there is none', () => {
  assert.ok((pathMtu(loopback, loopback) ?? 0) > 16_000);
  assert.equal(pathMtu(ip('192.0.2.1'), loopback), undefined);
});

test('a batch carries a datagram in at one end and out at the other, and its sleep can be ended', async () => {
  const peer = createSocket('udp4').bind(0, '127.0.0.1');
  await once(peer, 'listening');
  const [socketFd] = openUdp({ address: loopback, port: 0, sockets: 1 });
  const wakeupFd = openWakeup();
  const descriptors = new Int32Array(DESCRIPTOR_WORDS);
  const arena = Buffer.alloc(256 + MAX_PACKET_BYTES);
  arena.write('across', 100);
  try {
    // Its device is never touched here.
    const parts = { arena, descriptors, tunFd: wakeupFd, socketFd, wakeupFd, offloads: 0 };
    const batch = new EncapBatch(parts);
    descriptors.set([100, 6, 0, loopback, peer.address().port, 99, 1]);
    const arrived = once(peer, 'message');
    assert.equal(batch.transmit(1), 0);
    assert.deepEqual([descriptors[ERROR], descriptors[SENT_PACKETS], descriptors[SENT_BYTES]], [0, 1, 6]);
    assert.equal(String(((await arrived) as [Buffer])[0]), 'across');
    signalWakeup(wakeupFd);
    assert.equal(new DecapBatch(parts).receive(), 0);
    assert.equal(deviceDeleted(-1), false);
  } finally {
    [socketFd, wakeupFd].forEach(closeFd);
    peer.close();
  }
});

test('a notification nobody listens to is an error in one line', () => {
  assert.throws(
    () => notifySocket('/nonexistent/notify', 'READY=1'),
    /cannot send to the socket \/nonexistent\/notify: .*ENOENT/,
  );
});
