/** A key in the place of leases, as etcd has it, and what it says: read once, for all who look at it. */
import { isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';
import type { IKeyValue } from 'etcd3';
import { leaseFrom, type Lease } from '../lease.js';
import { parseLeaseKey } from '../lease-key.js';
import { parseLeaseValue } from '../lease-value.js';

/** Either a lease, or why a key holds none. */
export type LeaseResult =
  { readonly ok: true; readonly lease: Lease } | { readonly ok: false; readonly reason: string };

/** A key below `PREFIX/subnets/` as it was seen. */
export interface SeenKey {
  /** Its last part: `10.5.34.0-24`. Of one that is no text, or longer than a lease's can be, the beginning and a digest. */
  readonly name: string;
  /** Empty when it is longer than a lease's can be. */
  readonly value: string;
  /** The length of a value that is left out. */
  readonly omittedBytes?: number;
  /** Revision of its last write, a 64-bit number in decimal; it identifies what was seen. */
  readonly modRevision: string;
  /** The etcd lease that will delete the key; `0` for a reservation, which has none. */
  readonly etcdLeaseId: string;
}

/** The same with what key and value say. The expiry is not among it: etcd tells it only when asked for each lease by itself. */
export interface StoredEntry extends SeenKey {
  readonly content: LeaseResult;
}

/** What other backends store beside the address is a few hundred bytes. */
const MAX_VALUE_BYTES = 4096;
/** The longest name of a lease has two addresses and two lengths: under 70 characters. */
const MAX_NAME_BYTES = 128;
const SHOWN_NAME_BYTES = 64;

/**
 * Reads a key and its value.
 * @param folderBytes - the length of what stands before the name, the slash included
 */
export function entryOf({ key, value, mod_revision: modRevision, lease }: IKeyValue, folderBytes: number): StoredEntry {
  const name = entryName(key, folderBytes);
  return value.length <= MAX_VALUE_BYTES
    ? storedEntry({ name, value: value.toString(), modRevision, etcdLeaseId: lease })
    : storedEntry({ name, value: '', omittedBytes: value.length, modRevision, etcdLeaseId: lease });
}

/** Reads what a key that was seen says. */
export function storedEntry(seen: SeenKey): StoredEntry {
  const { name, value, omittedBytes, modRevision, etcdLeaseId } = seen;
  const entry = { name, value, modRevision, etcdLeaseId, content: contentOf(seen) };
  return omittedBytes === undefined ? entry : { ...entry, omittedBytes };
}

function contentOf({ name, value, omittedBytes, etcdLeaseId }: SeenKey): LeaseResult {
  const key = parseLeaseKey(name);
  if (key === undefined) return { ok: false, reason: 'its name is no subnet (10.5.34.0-24)' };
  if (omittedBytes !== undefined) return { ok: false, reason: `its value is ${omittedBytes} bytes long` };
  const read = parseLeaseValue(value);
  if (!read.ok) return { ok: false, reason: read.reason };
  return { ok: true, lease: leaseFrom(key, read.attributes, etcdLeaseId === '0') };
}

/** The name of a key; one that no lease can have may be of any length, and no text. */
export function entryName(key: Buffer, folderBytes: number): string {
  const bytes = key.subarray(folderBytes);
  if (bytes.length <= MAX_NAME_BYTES && isUtf8(bytes)) return bytes.toString();
  const digest = createHash('sha256').update(bytes).digest('hex').slice(0, 16);
  return `${bytes.toString('utf8', 0, SHOWN_NAME_BYTES)}… (${bytes.length} bytes, ${digest})`;
}
