/**
 * What the kernel offers beyond one packet a system call, as a ladder: each rung is tried at start by using it, used
 * where it is there, left out where it is not, and given up when it fails while packets flow. The names are stable: they
 * are what `--disable-offload` takes, and what `flannelctl status` and `flannel_offload{name}` show.
 */
import { getSystemErrorMap } from 'node:util';
import type { Logger } from '../log.js';
import { formatIpv4 } from '../packet/address.js';

/** A rung. */
export interface Offload {
  readonly name: string;
  /** As `native/offloads.h` has it. */
  readonly bit: number;
  /** The first Linux release with it. */
  readonly kernel: string;
  /** One line: what it spares. */
  readonly description: string;
  /** The rung that this one stands on. */
  readonly needs?: string;
}

/** Every rung. */
export const OFFLOADS = [
  {
    name: 'tun-vnet',
    bit: 1 << 0,
    kernel: '2.6.27',
    description: 'packets of the overlay device carry a virtio header, and their checksums are completed here',
  },
  {
    name: 'tun-tso',
    bit: 1 << 1,
    kernel: '2.6.27',
    description: 'TCP segments pass the overlay device up to 64 KB at once, both ways',
    needs: 'tun-vnet',
  },
  {
    name: 'tun-uso',
    bit: 1 << 2,
    kernel: '6.2',
    description: 'UDP datagrams of one flow pass the overlay device up to 64 KB at once, both ways',
    needs: 'tun-vnet',
  },
  {
    name: 'tun-multi-queue',
    bit: 1 << 3,
    kernel: '3.8',
    description: 'several workers share the overlay device, a queue each (--workers)',
  },
  {
    name: 'udp-segment',
    bit: 1 << 4,
    kernel: '4.18',
    description: 'up to 64 datagrams to one node leave with one send (UDP_SEGMENT)',
  },
  {
    name: 'udp-gro',
    bit: 1 << 5,
    kernel: '5.0',
    description: 'datagrams from one node arrive up to 64 KB at once (UDP_GRO)',
  },
  { name: 'sendmmsg', bit: 1 << 6, kernel: '3.0', description: 'several sends in one system call' },
  { name: 'recvmmsg', bit: 1 << 7, kernel: '2.6.33', description: 'several receives in one system call' },
] as const satisfies readonly Offload[];

export type OffloadName = (typeof OFFLOADS)[number]['name'];

/** Reads names separated by commas, or `all`; empty: none. `undefined` when one of them is no rung's. */
export function parseOffloadNames(text: string): readonly OffloadName[] | undefined {
  if (text === '') return [];
  const all = OFFLOADS.map(({ name }) => name);
  const named = text.split(',').map((part) => part.trim());
  if (named.includes('all')) return named.length === 1 ? all : undefined;
  const found = all.filter((name) => named.includes(name));
  return named.every((name) => all.some((one) => one === name)) ? found : undefined;
}

/** What `flannelctl status --json` says of a rung. */
export interface OffloadStatus {
  readonly name: string;
  readonly state: 'on' | 'off';
  /** Why it is off, or where it is not used although it is on. */
  readonly reason?: string;
  /** Times that it was given up while packets flowed, for one next hop or for good. */
  readonly stepDowns: number;
}

/** A step down as a worker reports it. */
export interface StepDown {
  readonly bit: number;
  readonly errno: number;
  /** The next hop that it concerns; 0: the rung is given up for good. */
  readonly address: number;
}

interface Rung {
  on: boolean;
  reason: string | undefined;
  /** On the process's clock; a worker tries a next hop again after a minute, and says so if it is refused again. */
  reasonUntilMs: number;
  stepDowns: number;
}

/** How long a refusal for one next hop is shown after the last of them. */
const SHOWN_MS = 120_000;

/** Said once for each next hop; a network of very many must not fill memory. */
const MAX_SAID = 1024;

/** Which rungs one network's dataplane stands on. The main thread's; workers have the bits of when they were started. */
export class OffloadLadder {
  private readonly rungs: Readonly<Record<OffloadName, Rung>>;
  private readonly said = new Set<string>();

  /**
   * @param disabled - rungs that the operator does not want
   * @param nowMs - a clock that never goes back
   */
  constructor(
    disabled: readonly OffloadName[] = [],
    private readonly nowMs: () => number = () => performance.now(),
  ) {
    const rung = (name: OffloadName): Rung => ({
      on: false,
      reason: disabled.includes(name) ? 'switched off by --disable-offload' : undefined,
      reasonUntilMs: Infinity,
      stepDowns: 0,
    });
    this.rungs = Object.fromEntries(OFFLOADS.map(({ name }) => [name, rung(name)])) as Record<OffloadName, Rung>;
  }

  /** Whether a rung is still to be tried. */
  wants(name: OffloadName): boolean {
    return this.rungs[name].reason === undefined;
  }

  isOn(name: OffloadName): boolean {
    return this.rungs[name].on;
  }

  /** The outcome of trying a rung that is wanted: it is there, or the reason why not. */
  tried(name: OffloadName, reason?: string): void {
    if (!this.wants(name)) return;
    this.rungs[name].on = reason === undefined;
    this.rungs[name].reason = reason;
  }

  /** As the native code takes it. */
  get bits(): number {
    return OFFLOADS.reduce((bits, { name, bit }) => (this.rungs[name].on ? bits | bit : bits), 0);
  }

  /** Counts a step down and says so, once for each rung and next hop. */
  stepDown({ bit, errno, address }: StepDown, logger: Logger): void {
    const offload = OFFLOADS.find((one) => one.bit === bit);
    if (offload === undefined) return;
    const rung = this.rungs[offload.name];
    rung.stepDowns++;
    const where = address === 0 ? 'any more' : `to ${formatIpv4(address)}`;
    const reason = `the kernel refuses it ${where}: ${errnoText(errno)}`;
    // What another worker says of one next hop does not tell why the rung is off.
    if (rung.on) rung.reason = reason;
    if (address === 0) rung.on = false;
    rung.reasonUntilMs = rung.on ? this.nowMs() + SHOWN_MS : Infinity;
    const line = `offload ${offload.name}: ${reason}; packets go on without it`;
    if (this.said.has(line) || this.said.size >= MAX_SAID) return;
    this.said.add(line);
    logger.warn(line);
  }

  status(): OffloadStatus[] {
    return OFFLOADS.map(({ name }) => {
      const { on, stepDowns, reasonUntilMs } = this.rungs[name];
      const reason = this.nowMs() < reasonUntilMs ? this.rungs[name].reason : undefined;
      return { name, state: on ? 'on' : 'off', ...(reason === undefined ? {} : { reason }), stepDowns };
    });
  }
}

/** What the kernel's refusal of a rung means to an operator. `result` is a negated errno value. */
export function refusal(name: OffloadName, result: number): string {
  const { kernel } = OFFLOADS.find((offload) => offload.name === name) ?? OFFLOADS[0];
  return `the kernel refuses it (it came with Linux ${kernel}): ${errnoText(-result)}`;
}

function errnoText(errno: number): string {
  const [name, text] = getSystemErrorMap().get(-errno) ?? [`errno ${errno}`, 'refused'];
  return `${text} (${name})`;
}
