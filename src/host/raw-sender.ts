/**
 * Sends IPv4 packets that bring their own header, routed by the host as if it had made them: echo requests, and ICMP
 * errors. Those go this way and not through the overlay device, for what is written there with one of the host's own
 * addresses as source, the kernel drops as martian.
 */
import { errorMessage, FlannelError } from '../errors.js';
import { formatIpv4 } from '../packet/address.js';
import { ipv4Destination } from '../packet/ipv4.js';
import type { Socket } from 'raw-socket';

/** IPPROTO_RAW: see raw(7). */
const PROTOCOL_RAW = 255;
/** Of ip(7): connection tracking is not to put our fragments together again on their way out. */
const IPPROTO_IP = 0;
const IP_NODEFRAG = 22;
/** Packets waiting in the process; a packet of 64 KiB has up to 1366 fragments. Beyond that, what comes is dropped. */
const MAX_QUEUED = 2048;

/**
 * Senders with packets under way. The package's polling does not keep its socket alive: where nobody else holds the
 * sender, it would be collected as garbage, and those who wait for it never told.
 */
const busy = new Set<RawSender>();

type RawSocketModule = typeof import('raw-socket');

/** Sends IPv4 packets that bring their own header (raw(7)); close it after use. */
export class RawSender {
  private socket: Socket | undefined;
  /** Who is still to be told of a packet. */
  private readonly waiting = new Set<(sent: boolean) => void>();
  private closed = false;

  /** @throws FlannelError `BACKEND` when the package is not built, or the kernel refuses (no CAP_NET_RAW) */
  static async open(): Promise<RawSender> {
    try {
      // Loaded only now, for the package throws at once where its addon was never compiled.
      const { default: module } = await import('raw-socket');
      const sender = new RawSender(module);
      sender.reopen();
      return sender;
    } catch (error) {
      throw new FlannelError(
        'BACKEND',
        `cannot open a raw socket (${errorMessage(error)}): run as root, after \`npm run build\``,
        { cause: error },
      );
    }
  }

  private constructor(private readonly module: RawSocketModule) {}

  /** Sends one packet to the destination that its header names; `done` learns whether the kernel took it. */
  send(packet: Buffer, done: (sent: boolean) => void): void {
    if (this.closed || this.waiting.size >= MAX_QUEUED) {
      done(false);
      return;
    }
    try {
      this.socket ??= this.reopen();
    } catch {
      done(false);
      return;
    }
    const settle = (sent: boolean): void => {
      if (!this.waiting.delete(settle)) return;
      if (this.waiting.size === 0) busy.delete(this);
      done(sent);
    };
    this.waiting.add(settle);
    busy.add(this);
    this.socket.send(packet, 0, packet.length, formatIpv4(ipv4Destination(packet, 0)), (error) => {
      settle(error === null);
    });
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.socket?.close();
  }

  private reopen(): Socket {
    const socket = this.module.createSocket({ protocol: PROTOCOL_RAW, bufferSize: 1 });
    socket.setOption(IPPROTO_IP, IP_NODEFRAG, 1);
    // The package closes a socket that polling complains of, and forgets what it had to send; the next packet gets a new one.
    socket.on('error', () => undefined);
    socket.on('close', () => {
      if (this.socket === socket) this.socket = undefined;
      for (const settle of [...this.waiting]) settle(false);
    });
    this.socket = socket;
    return socket;
  }
}
