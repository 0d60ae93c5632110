import type { PacketQuestion } from '../backend/explain.js';
import { parseIpv4 } from '../packet/address.js';
import { PROTOCOL_ICMP } from '../packet/ipv4.js';

/** What packets of this host begin with (`net.ipv4.ip_default_ttl`). */
const DEFAULT_TTL = 64;

/** Reads the query of `GET /v1/explain`; a line on what is wrong with it, if it is. */
export function readPacketQuestion(query: URLSearchParams): PacketQuestion | string {
  const source = parseIpv4(query.get('source') ?? '');
  const destination = parseIpv4(query.get('destination') ?? '');
  if (source === undefined || destination === undefined) return 'source and destination: expected two IPv4 addresses';
  const protocol = readByte(query.get('protocol'), PROTOCOL_ICMP);
  const ttl = readByte(query.get('ttl'), DEFAULT_TTL);
  if (protocol === undefined || ttl === undefined) return 'protocol and ttl: expected numbers from 0 to 255';
  const sender = query.get('sender');
  if (sender === null) return { source, destination, protocol, ttl };
  const address = parseIpv4(sender);
  return address === undefined
    ? 'sender: expected an IPv4 address'
    : { source, destination, protocol, ttl, sender: address };
}

function readByte(text: string | null, preset: number): number | undefined {
  if (text === null) return preset;
  return /^\d{1,3}$/.test(text) && Number(text) <= 255 ? Number(text) : undefined;
}
