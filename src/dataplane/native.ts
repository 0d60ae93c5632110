/**
 * The native addon as the rest of the program sees it: arguments are checked here, and a refusal of the kernel becomes a
 * `FlannelError` that says what to do. Below this edge C++ trusts what it is given.
 */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { constants as osConstants } from 'node:os';
import { getSystemErrorMap } from 'node:util';
import { errorMessage, FlannelError } from '../errors.js';
import { formatIpv4 } from '../packet/address.js';
import { DESCRIPTOR_WORDS, LAYOUT_VERSION, MAX_PACKET_BYTES } from './descriptors.js';
import { OFFLOADS, type OffloadName, type StepDown } from './offloads.js';

/** What the addon exports: `native/binding.cc`. Results below zero are negated errno values. */
interface Addon {
  readonly layoutVersion: number;
  /** EBADFD, which Node has no name for and whose number depends on the architecture. */
  readonly deviceDeleted: number;
  openTun(name: string, multiQueue: boolean, virtio: boolean): number;
  setTunOffloads(fd: number, checksum: boolean, tso: boolean, uso: boolean): number;
  tunLeavesChecksums(fd: number): number;
  keepFlowsOnQueues(fd: number): number;
  tunName(fd: number): string | number;
  setTunPersistent(fd: number, persistent: boolean): number;
  queueShape(fd: number): [name: string, multiQueue: boolean, virtio: boolean, detached: boolean] | number;
  detachQueue(fd: number): number;
  openUdp(address: number, port: number, shared: boolean, bufferBytes: number): number;
  boundSocket(fd: number): [address: number, port: number, gro: boolean] | number;
  tryUdpOffload(fd: number, offload: number): number;
  pathMtu(source: number, destination: number): number;
  closeFd(fd: number): number;
  openWakeup(): number;
  signalWakeup(fd: number): number;
  lookUpUser(name: string): number[] | number;
  lookUpGroup(name: string): [gid: number] | number;
  peerIdentity(fd: number): number[] | number;
  executeConfined(
    identity: readonly number[],
    capabilities: readonly [lower: number, upper: number],
    readable: readonly string[],
    inheritedFds: number,
    program: string,
    args: readonly string[],
    environment: readonly string[],
  ): [step: string, error: number];
  notifySocket(path: string, message: string, fds: readonly number[]): number;
  notifyBarrier(path: string, message: string, milliseconds: number): number;
  setInherited(fd: number, inherited: boolean): number;
  listenForMessages(path: string): number;
  connectForMessages(path: string): number;
  acceptConnection(listener: number): number;
  sendMessage(fd: number, message: string, fds: readonly number[]): number;
  receiveMessage(fd: number): [message: string, ...fds: number[]] | number;
  watchReadable(fd: number, callback: () => void): object | number;
  unwatch(watch: object): void;
  decapHolds(batch: object): boolean;
  createEncapBatch: CreateBatch;
  createDecapBatch: CreateBatch;
  encapReceive(batch: object): number;
  decapReceive(batch: object): number;
  encapTransmit(batch: object, count: number): number;
  decapTransmit(batch: object, count: number): number;
  encapTakeStepDown(batch: object): [offload: number, error: number, address: number];
  decapTakeStepDown(batch: object): [offload: number, error: number, address: number];
  encapCut(batch: object, descriptor: number, segment: number, keptBytes: number): number;
  pause(wakeupFd: number, milliseconds: number): number;
}

type CreateBatch = (
  arena: Buffer,
  descriptors: Int32Array,
  tunFd: number,
  socketFd: number,
  wakeupFd: number,
  offloads: number,
) => object;

const { errno } = osConstants;

/** Receive and send buffer of the tunnel's socket, each: some 20 ms at a gigabit per second. */
const SOCKET_BUFFER_BYTES = 4 * 1024 * 1024;

let loaded: Addon | undefined;

/**
 * Loads it when it is first used. The package's root is three folders above the compiled file, `dist/src/dataplane/native.js`.
 * @throws FlannelError `HOST`
 */
export function addon(): Addon {
  if (loaded !== undefined) return loaded;
  const path = fileURLToPath(new URL('../../../build/Release/flannelette.node', import.meta.url));
  let candidate: Addon;
  try {
    candidate = createRequire(import.meta.url)(path) as Addon;
  } catch (error) {
    throw new FlannelError('HOST', `cannot load the native addon ${path}: run \`npm run build\``, { cause: error });
  }
  if (candidate.layoutVersion !== LAYOUT_VERSION) {
    throw new FlannelError('HOST', `the native addon ${path} is of another version: run \`npm run build\``);
  }
  loaded = candidate;
  return candidate;
}

/** An open overlay device. */
export interface TunDevice {
  /** The name that the kernel gave it: `flannel0`. */
  readonly name: string;
  /** A descriptor for each queue; the caller closes them with {@link closeFd}. */
  readonly fds: readonly number[];
  /** Whether each packet comes and goes behind a virtio header. */
  readonly virtio: boolean;
}

export interface TunOptions {
  /**
   * The device to attach to, made when it does not exist. A `%d` stands for the first free number. By default
   * `flannel%d`.
   */
  readonly name?: string;
  /** One for each encapsulating worker. */
  readonly queues: number;
  /** Ask for virtio headers. */
  readonly virtio: boolean;
}

/**
 * Opens the overlay device without packet information, non-blocking. A kernel that has no virtio headers, or no several
 * queues each flow of which stays where it is, gives one without. Its offloads are off. A device of that name, left by an
 * earlier run, that has another shape (one queue where several are wanted, or the other way round), or offloads that this
 * process may not switch off, is replaced by a new one: its addresses and routes are gone then. Keep it with {@link setTunPersistent}.
 * @throws FlannelError `HOST`
 */
export function openTun({ name = 'flannel%d', queues, virtio }: TunOptions): TunDevice {
  if (typeof name !== 'string' || !/^[^\s/\0]{1,15}$/.test(name)) {
    throw new TypeError('Expected the "name" of a device to be 1 to 15 characters without blanks and slashes');
  }
  expectInteger('queues', queues, 1, 64);
  const shapes = [true, false]
    .filter((multiQueue) => queues > 1 || !multiQueue)
    .flatMap((multiQueue) => [true, false].map((headers) => ({ multiQueue, headers })))
    .filter(({ headers }) => virtio || !headers);
  let shape = shapes[0];
  let first = -errno.EINVAL;
  for (shape of shapes) {
    const { multiQueue, headers } = shape;
    first = openWithoutOffloads(name, multiQueue, headers);
    if (first === -errno.EINVAL && removeTun(name, !multiQueue)) first = addon().openTun(name, multiQueue, headers);
    if (first !== -errno.EINVAL) break;
  }
  const fds = [checked(first, (reason) => tunTrouble(name, reason))];
  try {
    const named = addon().tunName(fds[0]);
    if (typeof named === 'number') throw new FlannelError('HOST', tunTrouble(name, troubleOf(named)));
    // A flow that changes its queue would be carried out of order, so a kernel that moves flows about gives one queue.
    const several = shape.multiQueue && addon().keepFlowsOnQueues(fds[0]) === 0;
    while (several && fds.length < queues) {
      fds.push(checked(addon().openTun(named, true, shape.headers), (reason) => tunTrouble(named, reason)));
    }
    return { name: named, fds, virtio: shape.headers };
  } catch (error) {
    fds.forEach(closeFd);
    throw error;
  }
}

/**
 * Opens the first queue of a device that hands over finished packets of at most the MTU. Without virtio headers nobody
 * could make sense of others, and a device from before has the offloads that it was left with.
 */
function openWithoutOffloads(name: string, multiQueue: boolean, headers: boolean): number {
  const native = addon();
  const isClean = (fd: number): boolean =>
    fd < 0 || native.setTunOffloads(fd, false, false, false) === 0 || native.tunLeavesChecksums(fd) !== 1;
  const found = native.openTun(name, multiQueue, headers);
  if (isClean(found)) return found;
  native.setTunPersistent(found, false);
  closeFd(found);
  const made = native.openTun(name, multiQueue, headers);
  if (isClean(made)) return made;
  closeFd(made);
  throw new FlannelError(
    'HOST',
    `the device ${name} has offloads that may be neither used nor switched off: remove it with \`ip link delete ${name}\``,
  );
}

/** What the kernel may leave to the reader of the device: checksums, and the cutting of TCP and of UDP. */
export interface TunOffloads {
  readonly checksum: boolean;
  readonly tso: boolean;
  readonly uso: boolean;
}

/**
 * Switches offloads of the whole device on and off; it keeps them when it is closed.
 * @returns 0, or a negated errno value when the kernel does not have all of them, and nothing has changed
 */
export function setTunOffloads(fd: number, { checksum, tso, uso }: TunOffloads): number {
  expectFd('fd', fd);
  return addon().setTunOffloads(fd, checksum, tso, uso);
}

/** Removes a persistent device that nobody has open, by attaching to it in the shape it has. */
function removeTun(name: string, severalQueues: boolean): boolean {
  const fd = addon().openTun(name, severalQueues, false);
  if (fd < 0) return false;
  addon().setTunPersistent(fd, false);
  closeFd(fd);
  return true;
}

function tunTrouble(name: string, reason: Trouble): string {
  switch (reason.number) {
    case errno.EPERM:
    case errno.EACCES:
      return `cannot open the overlay device ${name}: not allowed: run as root (CAP_NET_ADMIN)`;
    case errno.ENOENT:
    case errno.ENODEV:
    case errno.ENXIO:
      return `cannot open the overlay device ${name}: /dev/net/tun is missing: load the module with \`modprobe tun\``;
    case errno.EBUSY:
      return `the device ${name} is in use by another process: is another flanneld running?`;
    case errno.EINVAL:
      return `the device ${name} exists and is no TUN device of ours: remove or rename it`;
    default:
      return `cannot open the overlay device ${name}: ${reason.text}`;
  }
}

/**
 * Whether the device of this queue stays, with its addresses and routes, when the last process closes it.
 * @throws FlannelError `HOST`
 */
export function setTunPersistent(fd: number, persistent: boolean): void {
  expectFd('fd', fd);
  checked(addon().setTunPersistent(fd, persistent), ({ text }) => `cannot change the overlay device: ${text}`);
}

export interface UdpOptions {
  /** The address of the external interface. */
  readonly address: number;
  readonly port: number;
  /** One for each decapsulating worker. Several share the port; the kernel keeps each peer on one of them. */
  readonly sockets: number;
}

/**
 * Opens the tunnel's sockets, non-blocking, with large buffers. They never let this host fragment a datagram.
 * @returns their descriptors; the caller closes them with {@link closeFd}
 * @throws FlannelError `HOST`
 */
export function openUdp({ address, port, sockets }: UdpOptions): number[] {
  expectInteger('address', address, 0, 0xffffffff);
  expectInteger('port', port, 0, 65535);
  expectInteger('sockets', sockets, 1, 64);
  const open = (shared: boolean): number =>
    checked(addon().openUdp(address, port, shared, SOCKET_BUFFER_BYTES), (reason) => udpTrouble(address, port, reason));
  if (sockets === 1) return [open(false)];
  // Sockets that share a port would share it with those of another daemon as well, so ask first whether it is free.
  closeFd(open(false));
  const fds: number[] = [];
  try {
    while (fds.length < sockets) fds.push(open(true));
    return fds;
  } catch (error) {
    fds.forEach(closeFd);
    throw error;
  }
}

function udpTrouble(address: number, port: number, reason: Trouble): string {
  const place = `${formatIpv4(address)}:${port}`;
  switch (reason.number) {
    case errno.EADDRINUSE:
      return `UDP ${place} is in use by another process: is another flanneld running?`;
    case errno.EADDRNOTAVAIL:
      return `cannot bind UDP ${place}: the address is on no interface of this host`;
    case errno.EACCES:
      return `cannot bind UDP ${place}: not allowed: run as root (CAP_NET_BIND_SERVICE)`;
    default:
      return `cannot open the tunnel's socket on UDP ${place}: ${reason.text}`;
  }
}

/**
 * Tries one of the socket's offloads by using it; `udp-gro` is on from then on.
 * @returns 0, or a negated errno value when the kernel or a filter refuses
 */
export function tryUdpOffload(fd: number, name: OffloadName): number {
  expectFd('fd', fd);
  const offload = OFFLOADS.find((one) => one.name === name);
  if (offload === undefined) throw new TypeError(`Expected the "name" of an offload, got ${name}`);
  return addon().tryUdpOffload(fd, offload.bit);
}

/**
 * The largest IPv4 packet that the path from one address of this host to another host is known to carry: the route's
 * MTU, or what ICMP has said since (RFC 1191).
 * @returns bytes, outer headers included; `undefined` when there is no route
 */
export function pathMtu(source: number, destination: number): number | undefined {
  expectInteger('source', source, 0, 0xffffffff);
  expectInteger('destination', destination, 0, 0xffffffff);
  const bytes = addon().pathMtu(source, destination);
  return bytes < 0 ? undefined : bytes;
}

/** Closes a descriptor that this module opened. */
export function closeFd(fd: number): void {
  expectFd('fd', fd);
  addon().closeFd(fd);
}

/**
 * A descriptor by which one thread ends the sleep of another (eventfd(2)).
 * @throws FlannelError `HOST`
 */
export function openWakeup(): number {
  return checked(addon().openWakeup(), ({ text }) => `cannot make an eventfd: ${text}`);
}

/** Ends the present sleep of the worker that waits on `fd`, or its next one. */
export function signalWakeup(fd: number): void {
  addon().signalWakeup(fd);
}

/** What a worker works with. */
export interface PacketBatchOptions {
  readonly arena: Buffer;
  readonly descriptors: Int32Array;
  /** A queue of the overlay device. */
  readonly tunFd: number;
  readonly socketFd: number;
  /** See {@link openWakeup}. */
  readonly wakeupFd: number;
  /** The rungs to stand on, `OffloadLadder.bits`. */
  readonly offloads: number;
}

/**
 * The calls of the hot path, which pass nothing but integers: all else is in the arena and the descriptors
 * (`descriptors.ts`). {@link receive} drains its source; where nothing is there, it sleeps until something comes or the
 * wake-up is signalled, which it answers with 0. Below zero: a negated errno value.
 */
export interface PacketBatch {
  /** Packets from the device or the socket: how many, 0 when woken, or a negated errno value. */
  receive(): number;
  /**
   * Sends or writes the first `count` packets, those with the verdict FORWARD.
   * @returns how many steps down the ladder are to be reported, see {@link takeStepDown}
   */
  transmit(count: number): number;
  takeStepDown(): StepDown;
  /** Packets were received that `receive` has not given yet. */
  readonly holdsPackets: boolean;
}

/** From the device to the socket: `native/encap_batch.h`. */
export class EncapBatch implements PacketBatch {
  private readonly addon = addon();
  private readonly batch: object;
  readonly holdsPackets = false;

  constructor(options: PacketBatchOptions) {
    this.batch = createBatch(this.addon.createEncapBatch, options);
    if (options.arena.length < MAX_PACKET_BYTES) {
      throw new TypeError(`Expected the "arena" to have at least ${MAX_PACKET_BYTES} bytes`);
    }
  }

  receive(): number {
    return this.addon.encapReceive(this.batch);
  }

  transmit(count: number): number {
    return this.addon.encapTransmit(this.batch, count);
  }

  takeStepDown(): StepDown {
    return stepDown(this.addon.encapTakeStepDown(this.batch));
  }

  /**
   * Writes one of the packets that a descriptor's packet is on the wire, or with -1 the super-packet itself, into the
   * last `MAX_PACKET_BYTES` of the arena.
   * @param keptBytes - so much of it is needed: its headers, and whatever else there is up to this, are written
   * @returns the bytes that it has
   */
  cut(descriptor: number, segment: number, keptBytes: number): number {
    return this.addon.encapCut(this.batch, descriptor, segment, keptBytes);
  }
}

/** From the socket to the device: `native/decap_batch.h`. */
export class DecapBatch implements PacketBatch {
  private readonly addon = addon();
  private readonly batch: object;

  constructor(options: PacketBatchOptions) {
    this.batch = createBatch(this.addon.createDecapBatch, options);
  }

  get holdsPackets(): boolean {
    return this.addon.decapHolds(this.batch);
  }

  receive(): number {
    return this.addon.decapReceive(this.batch);
  }

  transmit(count: number): number {
    return this.addon.decapTransmit(this.batch, count);
  }

  takeStepDown(): StepDown {
    return stepDown(this.addon.decapTakeStepDown(this.batch));
  }
}

function createBatch(create: CreateBatch, options: PacketBatchOptions): object {
  const { arena, descriptors, tunFd, socketFd, wakeupFd, offloads } = options;
  if (!Buffer.isBuffer(arena)) throw new TypeError('Expected the "arena" to be a Buffer');
  if (!(descriptors instanceof Int32Array) || descriptors.length % DESCRIPTOR_WORDS !== 0) {
    throw new TypeError(`Expected "descriptors" to be an Int32Array of a multiple of ${DESCRIPTOR_WORDS} words`);
  }
  expectFd('tunFd', tunFd);
  expectFd('socketFd', socketFd);
  expectFd('wakeupFd', wakeupFd);
  expectInteger('offloads', offloads, 0, 0x7fffffff);
  return create(arena, descriptors, tunFd, socketFd, wakeupFd, offloads);
}

function stepDown([bit, error, address]: [number, number, number]): StepDown {
  return { bit, errno: error, address };
}

/** Whether a receive call failed because the device was deleted, which no patience mends. */
export function deviceDeleted(result: number): boolean {
  return result === -addon().deviceDeleted;
}

/** Sleeps until the time is over or the wake-up is signalled. */
export function pause(wakeupFd: number, milliseconds: number): void {
  addon().pause(wakeupFd, milliseconds);
}

/** A refusal of the kernel. */
interface Trouble {
  readonly number: number;
  readonly text: string;
}

/** What the kernel means by a negated errno value. */
export function troubleOf(negated: number): Trouble {
  const [name, text] = getSystemErrorMap().get(negated) ?? [`errno ${-negated}`, 'the kernel refused'];
  return { number: -negated, text: `${text} (${name})` };
}

/** @throws FlannelError `HOST` for a negated errno value */
export function checked(result: number, message: (reason: Trouble) => string): number {
  if (result < 0) throw new FlannelError('HOST', message(troubleOf(result)));
  return result;
}

/** @throws TypeError */
export function expectFd(name: string, value: unknown): void {
  expectInteger(name, value, 0, 0x7fffffff);
}

/** @throws TypeError */
function expectInteger(name: string, value: unknown, from: number, to: number): void {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < from || value > to) {
    throw new TypeError(`Expected "${name}" to be an integer from ${from} to ${to}, got ${errorMessage(value)}`);
  }
}
