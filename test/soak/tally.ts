/** Counters of the kernel in one namespace, by name: `Udp.InDatagrams`, `eth0.txPackets`, `nft.cut`. */
import type { Namespace } from '../../src/lab/namespace.js';

export type Tally = Readonly<Record<string, number>>;

/** Where each of the columns of `/proc/net/dev` stands after the device's name. */
const DEVICE_COLUMNS = { rxPackets: 1, rxDropped: 3, txPackets: 9, txDropped: 11 } as const;
const DEVICES_TITLE = 'Inter-|';

/** Reads `/proc/net/snmp`, `/proc/net/dev` and the named counters of nftables in a namespace. */
export async function readTally(namespace: Namespace): Promise<Tally> {
  const [{ stdout: files }, { stdout: counters }] = await Promise.all([
    namespace.exec('cat', ['/proc/net/snmp', '/proc/net/dev']),
    namespace.exec('nft', ['-j', 'list', 'counters']),
  ]);
  const at = files.indexOf(DEVICES_TITLE);
  return { ...parseSnmp(files.slice(0, at)), ...parseDevices(files.slice(at)), ...parseCounters(counters) };
}

/** What `later` has more than `earlier`. */
export function growth(earlier: Tally, later: Tally): Tally {
  return Object.fromEntries(Object.entries(later).map(([name, value]) => [name, value - (earlier[name] ?? 0)]));
}

/** The sum of some counters; one that is not there is an error, for it would be 0 for ever. */
export function sumOf(tally: Tally, ...names: readonly string[]): number {
  return names.reduce((sum, name) => {
    if (tally[name] === undefined) throw new Error(`the kernel has no counter ${name}`);
    return sum + tally[name];
  }, 0);
}

/** The sum of one counter of all devices. */
export function sumOfDevices(
  tally: Tally,
  counter: keyof typeof DEVICE_COLUMNS,
  except: readonly string[] = [],
): number {
  return Object.entries(tally)
    .filter(([name]) => name.endsWith(`.${counter}`) && !except.some((device) => name === `${device}.${counter}`))
    .reduce((sum, [, value]) => sum + value, 0);
}

/** Pairs of lines: names, then values, both after the protocol. */
export function parseSnmp(text: string): Tally {
  const lines = text.split('\n').filter((line) => line !== '');
  const tally: Record<string, number> = {};
  for (let index = 0; index + 1 < lines.length; index += 2) {
    const [protocol, names] = lines[index].split(': ');
    const values = lines[index + 1].split(': ')[1].split(' ');
    names.split(' ').forEach((name, column) => (tally[`${protocol}.${name}`] = Number(values[column])));
  }
  return tally;
}

export function parseDevices(text: string): Tally {
  const tally: Record<string, number> = {};
  for (const line of text.split('\n').slice(2)) {
    const [device, columns] = line.split(':');
    if (columns === undefined) continue;
    const values = columns.trim().split(/\s+/).map(Number);
    for (const [name, column] of Object.entries(DEVICE_COLUMNS)) tally[`${device.trim()}.${name}`] = values[column];
  }
  return tally;
}

function parseCounters(json: string): Tally {
  const { nftables } = JSON.parse(json) as { nftables: { counter?: { name: string; packets: number } }[] };
  return Object.fromEntries(
    nftables.flatMap(({ counter }) => (counter === undefined ? [] : [[`nft.${counter.name}`, counter.packets]])),
  );
}
