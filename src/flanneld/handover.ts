/**
 * How a running agent makes room for the next one without a packet lost or overtaken (`flanneld --takeover`):
 *
 *     next                                            running
 *      │ ── take over, version ──────────────────────►  │  same user or root? it forwards on
 *      │ ◄── offer: snapshot, queues, sockets, token ── │
 *      │  its workers stand ready, parked               │
 *      │ ── ready ───────────────────────────────────►  │
 *      │                                                │  its workers park; then the token is laid down
 *      │ ◄── parked ─────────────────────────────────── │
 *      │  takes the token; its workers go               │
 *      │ ── running ─────────────────────────────────►  │
 *      │ ◄── leave ──────────────────────────────────── │  exits
 *
 * The token is one unit in an eventfd: whoever takes it may forward, so that a next one that is late, and a running one that
 * has given it up, never both do. A next one that ends, or does not run in time, leaves the running one to go on; one that
 * hangs with the token in its hand is told so when it moves again, by the answer that it does not get, and ends. Where the
 * running one ends by itself, at whatever step, nobody carries packets any more, and the next one goes.
 */
import {
  chmodSync,
  closeSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';

import { setTimeout as sleep } from 'node:timers/promises';

import type { StoredDescriptor } from '../backend/descriptor-store.js';
import { MessageChannel, MessageListener, type Message } from '../dataplane/message-channel.js';
import { closeFd, openWakeup, signalWakeup } from '../dataplane/native.js';
import { errorMessage, FlannelError } from '../errors.js';
import type { Logger } from '../log.js';

/** Of the messages and of what is handed over. Others are not understood. */
const VERSION = 2;

/** The next one loads and starts its threads meanwhile; packets flow. */
const READY_MS = 30_000;
/** From the order to park to the other one's "running": packets wait meanwhile. */
const SILENCE_MS = 2000;
/** A running agent answers at once, and exits within a second. */
const ANSWER_MS = 5000;

/** A process that dies has closed all that it had open within this. */
const DEATH_MS = 50;

const SNAPSHOT = 'snapshot';
const TOKEN = 'token';

interface Refusal {
  readonly type: 'refused';
  readonly reason: string;
  /** Its process ends by itself, and the channel with it. */
  readonly ending?: boolean;
}

type Text =
  | { readonly type: 'take-over'; readonly version: number; readonly prefix: string }
  | { readonly type: 'offer'; readonly version: number; readonly names: readonly string[] }
  | Refusal
  | { readonly type: 'ready' | 'parked' | 'running' | 'leave' };

/** Where an agent with that control socket waits for the next one. */
export function handoverPath(controlSocket: string): string {
  return `${controlSocket}.handover`;
}

/** What a running agent can hand over. */
export interface Estate {
  /** Where its network's keys begin. */
  readonly prefix: string;
  /** Why it cannot now, to be told. */
  unfit(): string | undefined;
  /** Whether it is about to end, and so leaves its place to whoever waits for that. */
  ending(): boolean;
  /** What its store has told it, as text. */
  snapshot(): string | undefined;
  descriptors(): readonly StoredDescriptor[];
  /** Holds its workers. */
  park(): Promise<void>;
  resume(): Promise<void>;
  /** Ends this process: another forwards (`taken`), or is to start from nothing. */
  leave(taken: boolean): void;
}

/** The running agent's side. */
export class HandoverServer {
  readonly #path: string;
  readonly #estate: Estate;
  readonly #logger: Logger;
  readonly #listener: MessageListener;
  readonly #inode: number;
  #busy = false;

  /** @throws FlannelError `HOST` */
  constructor(path: string, estate: Estate, logger: Logger) {
    this.#path = path;
    this.#estate = estate;
    this.#logger = logger;
    const own = `${path}.${process.pid}`;
    rmSync(own, { force: true });
    this.#listener = new MessageListener(own, (channel) => void this.#serve(channel));
    chmodSync(own, 0o600);
    renameSync(own, path);
    this.#inode = statSync(path).ino;
  }

  close(): void {
    this.#listener.close();
    this.removeSocket();
  }

  /** Unless another agent has put its own there since. */
  removeSocket(): void {
    try {
      if (statSync(this.#path).ino === this.#inode) rmSync(this.#path);
    } catch {
      // Already gone, or out of reach: nobody listens there, which the next one finds out.
    }
  }

  async #serve(channel: MessageChannel): Promise<void> {
    const first = !this.#busy;
    this.#busy = true;
    try {
      const message = await channel.receive(ANSWER_MS);
      const refusal = this.#refusal(parse(message), channel.peerUser, first);
      // The end of this process closes the channel: the other one waits for that, and opens what is free then.
      if (refusal === undefined) return await this.#handOver(channel);
      // One that looks whether somebody listens here says nothing.
      if (message !== undefined || !channel.ended) channel.send(text(refusal));
      if (refusal.ending === true) return;
    } catch (error) {
      this.#logger.warn(`not taken over: ${errorMessage(error)}; going on`);
    }
    if (first) this.#busy = false;
    channel.close();
  }

  /** What is unread when the channel is closed would cost the other end the answer: the request is always read. */
  #refusal(request: Text | undefined, user: number | undefined, first: boolean): Refusal | undefined {
    const refuse = (reason: string, ending?: boolean): Refusal => ({ type: 'refused', reason, ending });
    if (user !== 0 && user !== process.geteuid?.()) return refuse(`user ${user} may not take over`);
    if (request?.type !== 'take-over') return refuse('that is no request to take over');
    if (request.prefix !== this.#estate.prefix) return refuse(`it serves the network at ${this.#estate.prefix}`);
    if (!first) return refuse('another one is taking over');
    const reason = this.#estate.unfit();
    return reason === undefined ? undefined : refuse(reason, this.#estate.ending());
  }

  /** Resolves when this process is to end, and rejects when it goes on. */
  async #handOver(channel: MessageChannel): Promise<void> {
    const snapshot = snapshotDescriptor(`${this.#path}.snapshot`, this.#estate.snapshot() ?? '');
    let token: number | undefined;
    try {
      token = openWakeup();
      const offered = [{ name: SNAPSHOT, fd: snapshot }, { name: TOKEN, fd: token }, ...this.#estate.descriptors()];
      const offer = text({ type: 'offer', version: VERSION, names: offered.map(({ name }) => name) });
      channel.send(
        offer,
        offered.map(({ fd }) => fd),
      );
      const answer = parse(await channel.receive(READY_MS));
      if (answer?.type === 'leave') {
        this.#logger.info('leaving, for another that starts in this place');
        this.#estate.leave(false);
        return;
      }
      if (answer?.type !== 'ready')
        throw new Error(channel.ended ? 'the other one has ended' : 'the other one is not ready in time');
      let runs = false;
      try {
        runs = await this.#exchange(channel, token);
      } finally {
        if (!runs) await this.#estate.resume();
      }
      if (!runs) throw new Error(channel.ended ? 'the other one has ended' : 'the other one does not run in time');
      this.#logger.info('another one has taken over');
      this.#estate.leave(true);
    } finally {
      closeSync(snapshot);
      if (token !== undefined) closeFd(token);
    }
  }

  /** Whether the other one runs now, and knows that this one leaves. */
  async #exchange(channel: MessageChannel, token: number): Promise<boolean> {
    const deadline = performance.now() + SILENCE_MS;
    if (!(await inTime(this.#estate.park(), SILENCE_MS))) return false;
    signalWakeup(token);
    channel.send(text({ type: 'parked' }));
    const answer = parse(await channel.receive(deadline - performance.now()));
    if (answer?.type === 'running') {
      channel.send(text({ type: 'leave' }));
      return true;
    }
    // One that is late finds none.
    take(token);
    return false;
  }
}

/** The next agent's side: what it was offered, until it runs or leaves it. */
export class Predecessor {
  readonly #path: string;
  readonly #channel: MessageChannel;
  readonly #token: number;
  #progress: 'asked' | 'parked' | 'left' = 'asked';
  /** As text; see `store-snapshot.ts`. */
  readonly snapshot: string;
  /** The tunnel's. */
  readonly descriptors: readonly StoredDescriptor[];
  #listeners: readonly StoredDescriptor[];

  /**
   * Asks the agent that listens at `path`. `undefined` where there is none.
   * @throws FlannelError `CONTROL` when it refuses, or does not answer
   */
  static async ask(path: string, prefix: string, logger: Logger): Promise<Predecessor | undefined> {
    const nobody = (): undefined => {
      logger.info('there is nobody to take over from: starting as ever');
    };
    let channel: MessageChannel;
    try {
      channel = MessageChannel.connect(path);
    } catch {
      return nobody();
    }
    try {
      const user = channel.peerUser;
      if (user !== 0 && user !== process.geteuid?.()) throw refusal(`${path} belongs to user ${user}`);
      const message = await exchange(channel, { type: 'take-over', version: VERSION, prefix });
      const offer = parse(message);
      if (offer?.type === 'refused' && offer.ending === true) {
        logger.info('the running flanneld is stopping: starting as ever when it has ended');
        await untilEnded(channel);
        return undefined;
      }
      if (offer?.type === 'refused') throw refusal(offer.reason);
      if (message === undefined && (await isGone(channel, path))) return nobody();
      if (message === undefined) throw refusal('it does not answer');
      if (offer?.type !== 'offer') throw refusal('its answer is not understood');
      if (offer.version === VERSION && !Array.isArray(offer.names)) throw refusal('its answer is not understood');
      if (offer.version === VERSION) {
        const handed = message.fds.map((fd, index) => ({ name: offer.names[index] ?? '', fd }));
        return new Predecessor(path, channel, handed);
      }
      logger.warn(
        `what is handed over is of version ${offer.version}, and this release reads ${VERSION}: it is ignored, and this one starts from nothing`,
      );
      message.fds.forEach(closeFd);
      await leave(channel);
      return undefined;
    } catch (error) {
      channel.close();
      throw error;
    }
  }

  private constructor(path: string, channel: MessageChannel, handed: readonly StoredDescriptor[]) {
    this.#path = path;
    this.#channel = channel;
    const fdOf = (wanted: string): number => {
      const fd = handed.find(({ name }) => name === wanted)?.fd;
      if (fd === undefined) throw refusal(`it does not hand over its ${wanted}`);
      return fd;
    };
    this.#token = fdOf(TOKEN);
    const snapshot = fdOf(SNAPSHOT);
    this.snapshot = readFileSync(snapshot, 'utf8');
    closeFd(snapshot);
    const rest = handed.filter(({ name }) => name !== TOKEN && name !== SNAPSHOT);
    this.descriptors = rest.filter(isOfTunnel);
    this.#listeners = rest.filter((one) => !isOfTunnel(one));
  }

  /** Sockets to answer on once the running agent has ended; none where it has taken them away. */
  get listeners(): readonly StoredDescriptor[] {
    return this.#listeners;
  }

  /**
   * Called when the workers of this process stand ready: resolves when they may go, and no other's do.
   * @throws FlannelError `CONTROL` when the running agent goes on instead
   */
  async makeRoom(): Promise<void> {
    const answer = parse(await exchange(this.#channel, { type: 'ready' }));
    if (answer?.type === 'parked' && take(this.#token)) {
      this.#progress = 'parked';
      return;
    }
    if (!(await isGone(this.#channel, this.#path))) throw refusal('it did not make room in time, and goes on');
    this.#progress = 'left';
  }

  /**
   * Called when packets flow here: resolves when the other one has given up its place for good.
   * @throws FlannelError `CONTROL` when it goes on, since it was told too late
   */
  async running(): Promise<void> {
    if (this.#progress === 'left') return;
    const answer = parse(await exchange(this.#channel, { type: 'running' }));
    if (answer?.type !== 'leave' && !(await isGone(this.#channel, this.#path)))
      throw refusal('it was told too late, and goes on');
    this.#progress = 'left';
  }

  /** Whether the other one has given up its place: where this one does not go on, nobody does. */
  get gone(): boolean {
    return this.#progress === 'left';
  }

  /** Waits for the other one's end. */
  ended(): Promise<void> {
    return untilEnded(this.#channel);
  }

  /**
   * Makes the other one end: what it has handed over is of no use. One that has made room already goes on instead.
   * @throws FlannelError `CONTROL` when it does not end
   */
  async leave(): Promise<void> {
    if (this.#progress === 'left') return this.ended();
    if (this.#progress === 'asked') {
      await leave(this.#channel);
      // Open here they would keep their address from the ones that are made anew.
      this.#listeners.forEach(({ fd }) => closeFd(fd));
      this.#listeners = [];
      return;
    }
    this.#channel.close();
    throw refusal('packets could not be made to flow here, and it goes on');
  }
}

/** What the other end answers; `undefined`: it does not, or it is closed. */
async function exchange(channel: MessageChannel, message: Text): Promise<Message | undefined> {
  try {
    channel.send(text(message));
  } catch {
    // Its end is still to be read.
  }
  return channel.receive(ANSWER_MS);
}

/** Whether the process at the other end is no more: one that goes on has closed the channel, and listens. */
async function isGone(channel: MessageChannel, path: string): Promise<boolean> {
  if (!channel.ended) return false;
  // One that dies closes one thing after the other.
  await sleep(DEATH_MS);
  return !listens(path);
}

async function untilEnded(channel: MessageChannel): Promise<void> {
  while (!channel.ended && (await channel.receive(ANSWER_MS)) !== undefined) continue;
  channel.close();
}

/** Whether somebody would hand over there. */
function listens(path: string): boolean {
  try {
    MessageChannel.connect(path).close();
    return true;
  } catch {
    return false;
  }
}

async function leave(channel: MessageChannel): Promise<void> {
  await exchange(channel, { type: 'leave' });
  const gone = channel.ended;
  channel.close();
  if (!gone) throw refusal('it does not end');
}

/** What distinguishes the tunnel's descriptors from those of servers. */
function isOfTunnel({ name }: StoredDescriptor): boolean {
  return /^(tun|udp)-/.test(name);
}

function refusal(reason: string): FlannelError {
  return new FlannelError('CONTROL', `cannot take over from the running flanneld: ${reason}`);
}

/** Takes the one unit of an eventfd, if nobody has. */
function take(token: number): boolean {
  try {
    return readSync(token, Buffer.alloc(8)) === 8;
  } catch {
    return false;
  }
}

/** An open file of that content that no path leads to. */
function snapshotDescriptor(path: string, content: string): number {
  rmSync(path, { force: true });
  writeFileSync(path, content, { mode: 0o600, flag: 'wx' });
  try {
    return openSync(path, 'r');
  } finally {
    rmSync(path, { force: true });
  }
}

async function inTime(work: Promise<void>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => (timer = setTimeout(() => resolve(false), ms)));
  const done = await Promise.race([work.then(() => true), late]);
  clearTimeout(timer);
  return done;
}

function text(message: Text): string {
  return JSON.stringify(message);
}

function parse(message: Message | undefined): Text | undefined {
  if (message === undefined) return undefined;
  try {
    return JSON.parse(message.text) as Text;
  } catch {
    return undefined;
  }
}
