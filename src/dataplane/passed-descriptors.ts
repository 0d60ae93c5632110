/** Descriptors that come from another process or go to one: the addon's part in it, checked as in `native.ts`. */
import { addon, checked, closeFd, expectFd } from './native.js';

/** How long the receiver of a datagram may take to deal with all that came before it. */
const BARRIER_MS = 2000;

/**
 * Sends one datagram to a unix socket, as sd_notify(3) does, with copies of descriptors; a leading `@` names the abstract
 * namespace.
 * @throws FlannelError `HOST`
 */
export function notifySocket(path: string, message: string, fds: readonly number[] = []): void {
  expectSocketPath(path);
  if (typeof message !== 'string') throw new TypeError('Expected the "message" to be a string');
  for (const fd of fds) expectFd('fds', fd);
  checked(addon().notifySocket(path, message, fds), ({ text }) => `cannot send to the socket ${path}: ${text}`);
}

/**
 * Waits, without letting anything else run, until the service manager behind a notify socket has dealt with what was sent
 * to it before.
 * @throws FlannelError `HOST` when it does not say so in time, as one before systemd 246 does not
 */
export function notifyBarrier(path: string): void {
  expectSocketPath(path);
  checked(
    addon().notifyBarrier(path, 'BARRIER=1', BARRIER_MS),
    ({ text }) => `the service manager at ${path} does not answer: ${text}`,
  );
}

function expectSocketPath(path: string): void {
  if (typeof path !== 'string' || !/^[/@]/.test(path) || path.includes('\0')) {
    throw new TypeError('Expected the "path" of a socket to begin with / or @');
  }
}

/** Keeps a descriptor from the programs that this process runs, or gives it to them. @throws FlannelError `HOST` */
export function setInherited(fd: number, inherited: boolean): void {
  expectFd('fd', fd);
  checked(addon().setInherited(fd, inherited), ({ text }) => `cannot change the descriptor ${fd}: ${text}`);
}

/** How a queue of an overlay device was opened. */
export interface QueueShape {
  /** The device's present name. */
  readonly device: string;
  readonly multiQueue: boolean;
  /** Each packet comes and goes behind a virtio header. */
  readonly virtio: boolean;
  /** The device has the queue no more. */
  readonly detached: boolean;
}

/** Of a descriptor that may be anything: `undefined` unless it is a queue that packets of ours can pass. */
export function queueShape(fd: number): QueueShape | undefined {
  expectFd('fd', fd);
  const found = addon().queueShape(fd);
  if (typeof found === 'number') return undefined;
  const [device, multiQueue, virtio, detached] = found;
  return { device, multiQueue, virtio, detached };
}

/** Closes a queue and, where its device has several, takes it away from the device whoever else has it open. */
export function discardQueue(fd: number): void {
  expectFd('fd', fd);
  addon().detachQueue(fd);
  closeFd(fd);
}

/** What a UDP socket over IPv4 is bound to, and how. */
export interface BoundSocket {
  readonly address: number;
  readonly port: number;
  /** Trains of datagrams arrive as one (UDP_GRO). */
  readonly gro: boolean;
}

/** Of a descriptor that may be anything: `undefined` unless it is a UDP socket over IPv4. */
export function boundSocket(fd: number): BoundSocket | undefined {
  expectFd('fd', fd);
  const found = addon().boundSocket(fd);
  if (typeof found === 'number') return undefined;
  const [address, port, gro] = found;
  return { address: address >>> 0, port, gro };
}
