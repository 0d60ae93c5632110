/** What the kernel's queues before the dataplane had no room for. */
import { readFile } from 'node:fs/promises';
import { endianness } from 'node:os';

/** Packets dropped so far, each counted by its queue since that was made. */
export interface QueueDrops {
  /** Of the tunnel's sockets: what `SO_RXQ_OVFL` tells, socket(7). */
  readonly socketDrops: number;
  /** Of the overlay device: its `tx_dropped`. */
  readonly deviceDrops: number;
}

/** Where the queues are. */
export interface QueuePlace {
  /** The overlay device. */
  readonly device: string;
  /** The address and port that the tunnel's sockets are bound to. */
  readonly address: number;
  readonly port: number;
}

/** @throws when `/proc` or `/sys` does not tell */
export async function readQueueDrops({ device, address, port }: QueuePlace): Promise<QueueDrops> {
  const [sockets, dropped] = await Promise.all([
    readFile('/proc/self/net/udp', 'latin1'),
    readFile(`/sys/class/net/${device}/statistics/tx_dropped`, 'latin1'),
  ]);
  return { socketDrops: sumSocketDrops(sockets, address, port), deviceDrops: Number(dropped) };
}

/**
 * Adds up the drops of the sockets that are bound to this address and port, from the last column of `/proc/net/udp`. An
 * address stands there as its bytes lie in memory, `0B40A8C0` for 192.168.64.11 on a little-endian machine.
 */
export function sumSocketDrops(text: string, address: number, port: number): number {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(address);
  const asInteger = endianness() === 'LE' ? bytes.readUInt32LE() : bytes.readUInt32BE();
  const hex = (value: number, digits: number): string => value.toString(16).toUpperCase().padStart(digits, '0');
  const wanted = `${hex(asInteger, 8)}:${hex(port, 4)}`;
  return text
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((columns) => columns[1] === wanted)
    .reduce((sum, columns) => sum + Number(columns.at(-1) ?? 0), 0);
}
