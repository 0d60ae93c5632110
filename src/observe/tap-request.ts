import { DROP_REASONS } from '../dataplane/drop-reasons.js';
import { UsageError } from '../errors.js';
import { PacketFilter } from '../packet/classic-bpf.js';
import { readInteger, readJsonObject } from './request-fields.js';
import type { TapRequest } from './tap-protocol.js';

/** A packet's headers fit into this with room to spare, and nobody can ask for less. */
const MIN_PACKET_BYTES = 128;
const MAX_PACKET_BYTES = 65_536;
const MAX_EVERY = 1_000_000_000;

/** Tells from the beginning of a packet, and the length of all of it, whether it is wanted. */
export type PacketTest = Pick<PacketFilter, 'matches'>;

/** A {@link TapRequest} that was found to be sound, its filters ready to run. */
export interface TapWish {
  readonly filter: PacketTest | undefined;
  readonly outerFilter: PacketTest | undefined;
  readonly direction: 'encap' | 'decap' | undefined;
  readonly dropsOnly: boolean;
  /** By the numbers of drop reasons; `undefined`: all of them. */
  readonly reasons: ReadonlySet<number> | undefined;
  readonly every: number;
  readonly packetBytes: number;
  readonly wirePackets: boolean;
}

/**
 * Reads the body of `POST /v1/tap`.
 * @throws UsageError saying which field is wrong
 */
export function readTapRequest(body: string): TapWish {
  const request: Partial<Record<keyof TapRequest, unknown>> = readJsonObject(body);
  const { direction } = request;
  if (direction !== undefined && direction !== 'encap' && direction !== 'decap') {
    throw new UsageError('"direction" is neither encap nor decap');
  }
  const reasons = readReasons(request.reasons);
  return {
    filter: readFilter('filter', request.filter),
    outerFilter: readFilter('outerFilter', request.outerFilter),
    direction,
    dropsOnly: request.dropsOnly === true || reasons !== undefined,
    reasons,
    every: readInteger('every', request.every ?? 1, 1, MAX_EVERY),
    packetBytes: readInteger('packetBytes', request.packetBytes, MIN_PACKET_BYTES, MAX_PACKET_BYTES),
    wirePackets: request.wirePackets === true,
  };
}

function readFilter(name: string, value: unknown): PacketFilter | undefined {
  if (value === undefined) return undefined;
  if (!Array.isArray(value)) throw new UsageError(`"${name}" is no list of integers`);
  return new PacketFilter(value as readonly number[]);
}

function readReasons(value: unknown): ReadonlySet<number> | undefined {
  if (value === undefined) return undefined;
  if (!Array.isArray(value) || value.length === 0) throw new UsageError('"reasons" is no list of drop reasons');
  const numbers = value.map((name: unknown) => {
    const found = DROP_REASONS.find((info) => info.name === name);
    if (found === undefined) {
      const known = DROP_REASONS.map((info) => info.name).join(', ');
      throw new UsageError(`'${String(name)}' is no drop reason: choose from ${known}`);
    }
    return found.reason;
  });
  return new Set(numbers);
}
