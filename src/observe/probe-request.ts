import { UsageError } from '../errors.js';
import { parseIpv4 } from '../packet/address.js';
import type { MeshProbeRequest, PacketProbeRequest, ProbeRequest } from './probe-protocol.js';
import { readInteger, readJsonObject } from './request-fields.js';

/** Packets of one probe, at most. */
export const MAX_PROBE_PACKETS = 100;
export const MAX_PROBE_TIMEOUT_MS = 30_000;
/** The smallest packet of each protocol: its headers. */
export const MIN_PROBE_BYTES: Readonly<Record<PacketProbeRequest['protocol'], number>> = { icmp: 28, udp: 28, tcp: 40 };
export const MAX_PROBE_BYTES = 65_535;

/**
 * Reads the body of `POST /v1/probe`.
 * @throws UsageError saying which field is wrong
 */
export function readProbeRequest(body: string): ProbeRequest {
  const request = readJsonObject(body);
  const timeoutMs = readInteger('timeoutMs', request.timeoutMs, 1, MAX_PROBE_TIMEOUT_MS);
  if (request.kind === 'mesh') return { kind: 'mesh', timeoutMs } satisfies MeshProbeRequest;
  if (request.kind !== 'packet') throw new UsageError('"kind" is neither packet nor mesh');
  const { protocol, port } = request;
  if (protocol !== 'icmp' && protocol !== 'udp' && protocol !== 'tcp') {
    throw new UsageError('"protocol" is none of icmp, udp, tcp');
  }
  if (protocol === 'icmp' && port !== undefined) throw new UsageError('"port" goes with udp and tcp');
  return {
    kind: 'packet',
    destination: readAddress('destination', request.destination),
    ...(request.source === undefined ? {} : { source: readAddress('source', request.source) }),
    protocol,
    ...(port === undefined ? {} : { port: readInteger('port', port, 1, 65_535) }),
    sizeBytes: readInteger('sizeBytes', request.sizeBytes, MIN_PROBE_BYTES[protocol], MAX_PROBE_BYTES),
    dontFragment: request.dontFragment === true,
    count: readInteger('count', request.count, 1, MAX_PROBE_PACKETS),
    timeoutMs,
  };
}

function readAddress(name: string, value: unknown): string {
  if (typeof value !== 'string' || parseIpv4(value) === undefined) throw new UsageError(`"${name}" is no IPv4 address`);
  return value;
}
