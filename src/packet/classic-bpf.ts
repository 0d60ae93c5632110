/**
 * Classic BPF: the small machine that packet filters are compiled for (McCanne and Jacobson, "The BSD Packet Filter",
 * 1993; bpf(4)), as libpcap's compiler emits it. A program sees nothing but the bytes of one packet and its length, and
 * always ends: its jumps lead forward only, which is checked before it is ever run.
 *
 * Registers and the 16 cells of scratch memory hold unsigned 32-bit integers. A load beyond the bytes that are there, and
 * a division by zero, end the program with "no", as they do in libpcap.
 */
import { UsageError } from '../errors.js';

/** Instructions of a program, at most: BPF_MAXINSNS of Linux. */
const MAX_FILTER_INSTRUCTIONS = 4096;

/** Integers of one instruction: code, jump if true, jump if false, operand. */
const FIELDS = 4;
const SCRATCH_CELLS = 16;
/** Absolute offsets from here on name facts of a network device (SKF_AD_OFF of Linux), not bytes of the packet. */
const DEVICE_FACTS = 0xfffff000;

// The class of an instruction.
const LD = 0;
const LDX = 1;
const ST = 2;
const STX = 3;
const ALU = 4;
const JMP = 5;
const RET = 6;
const MISC = 7;

// How a load addresses, and how many bytes it takes.
const IMM = 0x00;
const ABS = 0x20;
const IND = 0x40;
const MEM = 0x60;
const LEN = 0x80;
const MSH = 0xa0;
const WORD = 0x00;
const HALF = 0x08;
const BYTE = 0x10;

/** The second operand is X, not the constant. */
const BY_X = 0x08;
const RET_A = 0x10;
const TXA = 0x80;

/** Every code that there is. */
const CODES: ReadonlySet<number> = new Set([
  ...[WORD, HALF, BYTE].flatMap((size) => [LD | ABS | size, LD | IND | size]),
  ...[IMM, MEM, LEN].flatMap((mode) => [LD | mode, LDX | mode]),
  ...[LDX | MSH | BYTE, ST, STX, JMP, RET, RET | RET_A, MISC, MISC | TXA],
  ...[0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x90, 0xa0].flatMap((op) => [ALU | op, ALU | op | BY_X]),
  ALU | 0x80,
  ...[0x10, 0x20, 0x30, 0x40].flatMap((test) => [JMP | test, JMP | test | BY_X]),
]);

/** A filter that was found to be sound, ready to be run on packets. */
export class PacketFilter {
  private readonly scratch = new Uint32Array(SCRATCH_CELLS);

  /**
   * @param program - instructions one after the other, four integers each (code, jump if true, jump if false, operand),
   *   as `tcpdump -ddd` prints them
   * @throws UsageError when it could do anything but answer for a packet
   */
  constructor(private readonly program: readonly number[]) {
    check(program);
  }

  /**
   * @param packet - the bytes of it that are there, from the first of its IP header on
   * @param lengthBytes - of the whole packet, which may be more
   */
  matches(packet: Uint8Array, lengthBytes: number): boolean {
    return this.run(packet, lengthBytes) !== 0;
  }

  /** What the program returns: the bytes to keep, 0 for none. */
  private run(packet: Uint8Array, lengthBytes: number): number {
    const { program, scratch } = this;
    scratch.fill(0);
    let a = 0;
    let x = 0;
    for (let at = 0; ; at += FIELDS) {
      const code = program[at];
      const operand = program[at + 3];
      switch (code & 0x07) {
        case LD:
          if ((code & 0xe0) === ABS || (code & 0xe0) === IND) {
            const offset = (code & 0xe0) === IND ? x + operand : operand;
            const size = (code & 0x18) === WORD ? 4 : (code & 0x18) === HALF ? 2 : 1;
            if (offset + size > packet.length) return 0;
            a = load(packet, offset, size);
          } else {
            a = (code & 0xe0) === IMM ? operand : (code & 0xe0) === MEM ? scratch[operand] : lengthBytes;
          }
          break;
        case LDX:
          if ((code & 0xe0) === MSH) {
            if (operand >= packet.length) return 0;
            x = (packet[operand] & 0x0f) << 2;
          } else {
            x = (code & 0xe0) === IMM ? operand : (code & 0xe0) === MEM ? scratch[operand] : lengthBytes;
          }
          break;
        case ST:
          scratch[operand] = a;
          break;
        case STX:
          scratch[operand] = x;
          break;
        case ALU: {
          const by = (code & BY_X) !== 0 ? x : operand;
          const op = code & 0xf0;
          if (by === 0 && (op === 0x30 || op === 0x90)) return 0;
          a = calculate(op, a, by);
          break;
        }
        case JMP:
          if ((code & 0xf0) === 0) at += FIELDS * operand;
          else at += FIELDS * program[at + (holds(code & 0xf0, a, (code & BY_X) !== 0 ? x : operand) ? 1 : 2)];
          break;
        case RET:
          return (code & RET_A) !== 0 ? a : operand;
        case MISC:
          if ((code & TXA) !== 0) a = x;
          else x = a;
          break;
      }
    }
  }
}

/** Big-endian, as the network's integers are. */
function load(packet: Uint8Array, offset: number, size: number): number {
  let value = 0;
  for (let index = 0; index < size; index++) value = (value << 8) | packet[offset + index];
  return value >>> 0;
}

function calculate(op: number, a: number, by: number): number {
  switch (op) {
    case 0x00:
      return (a + by) >>> 0;
    case 0x10:
      return (a - by) >>> 0;
    case 0x20:
      return Math.imul(a, by) >>> 0;
    case 0x30:
      return Math.floor(a / by);
    case 0x40:
      return (a | by) >>> 0;
    case 0x50:
      return (a & by) >>> 0;
    case 0x60:
      return by > 31 ? 0 : (a << by) >>> 0;
    case 0x70:
      return by > 31 ? 0 : a >>> by;
    case 0x80:
      return -a >>> 0;
    case 0x90:
      return a % by;
    default:
      return (a ^ by) >>> 0;
  }
}

function holds(test: number, a: number, by: number): boolean {
  switch (test) {
    case 0x10:
      return a === by;
    case 0x20:
      return a > by;
    case 0x30:
      return a >= by;
    default:
      return (a & by) !== 0;
  }
}

/** Refuses what is no program, or one that could run away or leave its memory. @throws UsageError */
function check(program: readonly number[]): void {
  const count = program.length / FIELDS;
  if (!Number.isInteger(count) || count < 1 || count > MAX_FILTER_INSTRUCTIONS) {
    throw new UsageError(`packet filter: expected 1 to ${MAX_FILTER_INSTRUCTIONS} instructions of four integers each`);
  }
  for (let at = 0; at < program.length; at += FIELDS) {
    const trouble = troubleWith(program, at, count - at / FIELDS - 1);
    if (trouble !== undefined) throw new UsageError(`packet filter: instruction ${at / FIELDS} ${trouble}`);
  }
  if ((program[program.length - FIELDS] & 0x07) !== RET) {
    throw new UsageError('packet filter: the last instruction is no return');
  }
}

/** @param after - how many instructions follow this one */
function troubleWith(program: readonly number[], at: number, after: number): string | undefined {
  const [code, ifTrue, ifFalse, operand] = program.slice(at, at + FIELDS);
  if (![ifTrue, ifFalse].every((jump) => Number.isInteger(jump) && jump >= 0 && jump <= 0xff)) {
    return 'has a jump that is no byte';
  }
  if (!Number.isInteger(operand) || operand < 0 || operand > 0xffffffff) return 'has an operand of more than 32 bits';
  if (!CODES.has(code)) return `has the unknown code ${code}`;
  const kind = code & 0x07;
  const usesScratch = kind === ST || kind === STX || ((kind === LD || kind === LDX) && (code & 0xe0) === MEM);
  if (usesScratch && operand >= SCRATCH_CELLS) return `uses scratch cell ${operand} of ${SCRATCH_CELLS}`;
  if (kind === LD && (code & 0xe0) === ABS && operand >= DEVICE_FACTS) {
    return 'asks for a fact of a network device, where there is only a packet (for inbound and outbound: --direction)';
  }
  if (kind === ALU && (code & BY_X) === 0 && operand === 0 && ((code & 0xf0) === 0x30 || (code & 0xf0) === 0x90)) {
    return 'divides by zero';
  }
  if (kind === JMP && ((code & 0xf0) === 0 ? operand : Math.max(ifTrue, ifFalse)) >= after) {
    return 'jumps beyond the end';
  }
  return undefined;
}
