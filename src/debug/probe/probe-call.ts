/**
 * A call as it stands on the board of probes: which packets are on their way, so that every agent knows them when it sees
 * them, or that each is to measure its ways to the others. Anybody who may write to the store can have written it.
 */
import { parseIpv4, formatIpv4 } from '../../packet/address.js';
import { PROTOCOL_NUMBERS } from '../../packet/ipv4.js';
import { MAX_PROBE_PACKETS } from '../../observe/probe-request.js';

/** Packets that are alike but for their numbers. */
export interface PacketCall {
  readonly kind: 'packet';
  /** The public address of the node that sends them. */
  readonly node: number;
  readonly protocol: (typeof PROTOCOL_NUMBERS)[keyof typeof PROTOCOL_NUMBERS];
  readonly source: number;
  readonly destination: number;
  /** Packet `i` has this source port plus `i`; of ICMP the identifier of all, their sequence numbers being 0, 1, … */
  readonly firstPort: number;
  /** 0 for ICMP. */
  readonly port: number;
  /** Packet `i` has this IP identification plus `i`. */
  readonly firstIdentification: number;
  readonly packets: number;
  /** The public address of the node that they are sent to; 0 where there is none. */
  readonly nextHop: number;
}

export interface MeshCall {
  readonly kind: 'mesh';
  readonly node: number;
  /** How long the nodes have. */
  readonly timeoutMs: number;
}

export type ProbeCall = PacketCall | MeshCall;

/** With those that the prober adds to find out more. */
export const MAX_CALL_PACKETS = MAX_PROBE_PACKETS + 1;
export const MAX_MESH_MS = 60_000;

const MAX_TEXT_LENGTH = 1024;

/** As it stands on the board; {@link parseCall} reads it. */
export function formatCall(call: ProbeCall): string {
  if (call.kind === 'mesh') return JSON.stringify({ ...call, node: formatIpv4(call.node) });
  const { node, source, destination, protocol, nextHop } = call;
  const name = Object.entries(PROTOCOL_NUMBERS).find(([, number]) => number === protocol)?.[0];
  const addresses = { node: formatIpv4(node), source: formatIpv4(source), destination: formatIpv4(destination) };
  return JSON.stringify({ ...call, ...addresses, nextHop: formatIpv4(nextHop), protocol: name });
}

/** `undefined` for what is no call; never throws. */
export function parseCall(text: string): ProbeCall | undefined {
  const fields = parseObject(text, MAX_TEXT_LENGTH);
  if (fields === undefined) return undefined;
  const node = addressOf(fields.node);
  if (node === undefined) return undefined;
  if (fields.kind === 'mesh') {
    const timeoutMs = integerOf(fields.timeoutMs, 1, MAX_MESH_MS);
    return timeoutMs === undefined ? undefined : { kind: 'mesh', node, timeoutMs };
  }
  const source = addressOf(fields.source);
  const destination = addressOf(fields.destination);
  const nextHop = addressOf(fields.nextHop);
  const protocol = protocolOf(fields.protocol);
  const port = integerOf(fields.port, 0, 0xffff);
  const packets = integerOf(fields.packets, 1, MAX_CALL_PACKETS);
  const firstPort = integerOf(fields.firstPort, 0, 0x10000 - (packets ?? 0));
  const firstIdentification = integerOf(fields.firstIdentification, 1, 0x10000 - (packets ?? 0));
  const numbers = { port, packets, firstPort, firstIdentification };
  const call = { kind: 'packet', node, source, destination, nextHop, protocol, ...numbers };
  return fields.kind === 'packet' && isComplete(call) ? call : undefined;
}

function isComplete(call: { readonly [Name in keyof PacketCall]: unknown }): call is PacketCall {
  return Object.values(call).every((value) => value !== undefined);
}

/** The fields of a JSON object that anybody may have written; `undefined` for anything else. */
export function parseObject(text: string, maxLength: number): Readonly<Record<string, unknown>> | undefined {
  if (text.length > maxLength) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
    return value as Readonly<Record<string, unknown>>;
  } catch {
    return undefined;
  }
}

/** An IPv4 address in dotted form, as a number; `undefined` for anything else. */
export function addressOf(value: unknown): number | undefined {
  return typeof value === 'string' ? parseIpv4(value) : undefined;
}

/** A whole number from `from` to `to`; `undefined` for anything else. */
export function integerOf(value: unknown, from: number, to: number): number | undefined {
  return typeof value === 'number' && Number.isInteger(value) && value >= from && value <= to ? value : undefined;
}

function protocolOf(value: unknown): PacketCall['protocol'] | undefined {
  return value === 'icmp' || value === 'tcp' || value === 'udp' ? PROTOCOL_NUMBERS[value] : undefined;
}
