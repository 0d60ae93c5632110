import { readFile } from 'node:fs/promises';
import { endianness } from 'node:os';

/** Datagrams that the sockets bound to an address and port had no room for: the last column of `/proc/net/udp`. */
export async function readQueueDrops(address: number, port: number): Promise<number> {
  return sumSocketDrops(await readFile('/proc/net/udp', 'latin1'), address, port);
}

/**
 * Adds up the drops of the sockets that are bound to this address and port. An address stands there as its bytes lie in
 * memory, `0B40A8C0` for 192.168.64.11 on a little-endian machine.
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
