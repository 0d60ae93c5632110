/** What stands in the store under a lease's key: the owner, as JSON that is byte for byte what flannel writes. */
import { errorMessage } from '../errors.js';
import { formatIpv4, parseIpv4 } from '../packet/address.js';
import { JsonFields, parseJson, quoted } from './json-fields.js';
import type { LeaseAttributes } from './lease.js';

/** Either what was read, or why it is no lease. */
export type LeaseValueResult =
  { readonly ok: true; readonly attributes: LeaseAttributes } | { readonly ok: false; readonly reason: string };

/** What nearly every value of a udp network looks like, read and written without JSON's own code: a cluster has thousands. */
const PLAIN_UDP = /^\{"PublicIP":"([0-9.]+)","PublicIPv6":null\}$/;

/**
 * Reads a lease's value as Go's encoding/json would: names without regard to case, unknown ones ignored. Stricter than
 * flannel in one thing: an owner without an address is no lease, for nothing can be sent to it.
 */
export function parseLeaseValue(text: string): LeaseValueResult {
  const plain = PLAIN_UDP.exec(text);
  const publicIp = plain === null ? undefined : parseIpv4(plain[1]);
  if (publicIp !== undefined && publicIp !== 0) {
    return { ok: true, attributes: { publicIp, publicIpv6: null, backendType: '' } };
  }
  try {
    return { ok: true, attributes: parseAttributes(text) };
  } catch (error) {
    return { ok: false, reason: errorMessage(error) };
  }
}

/** Writes a lease's value, byte for byte as flannel does. */
export function formatLeaseValue(attributes: LeaseAttributes): string {
  const { publicIpv6, backendType, backendData, backendV6Data } = attributes;
  if (publicIpv6 === null && backendType === '' && backendData === undefined && backendV6Data === undefined) {
    return `{"PublicIP":"${formatIpv4(attributes.publicIp)}","PublicIPv6":null}`;
  }
  const json = JSON.stringify({
    PublicIP: formatIpv4(attributes.publicIp),
    PublicIPv6: publicIpv6,
    ...(backendType === '' ? {} : { BackendType: backendType }),
    ...(backendData === undefined ? {} : { BackendData: backendData }),
    ...(backendV6Data === undefined ? {} : { BackendV6Data: backendV6Data }),
  });
  // Go writes these as escapes, so that JSON can stand inside HTML; they occur in strings only.
  return json.replace(/[<>&\u2028\u2029]/g, (mark) => `\\u${mark.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Of objects and arrays in one value: nothing that walks it may run out of stack. */
const MAX_NESTED = 256;

function parseAttributes(text: string): LeaseAttributes {
  if ((text.match(/[[{]/g)?.length ?? 0) > MAX_NESTED) throw new Error('its JSON is nested too deeply');
  const value = parseJson(text);
  const fields = JsonFields.of(value, '', (message) => new Error(message));
  if (fields === undefined) throw new Error('no JSON object');
  const address = fields.string('PublicIP');
  if (address === undefined) throw new Error('no PublicIP');
  const publicIp = parseIpv4(address);
  if (publicIp === undefined || publicIp === 0) {
    throw new Error(`PublicIP ${quoted(address)}: expected an IPv4 address`);
  }
  const backendData = fields.raw('BackendData');
  const backendV6Data = fields.raw('BackendV6Data');
  return {
    publicIp,
    publicIpv6: fields.string('PublicIPv6') ?? null,
    backendType: fields.string('BackendType') ?? '',
    ...(backendData === undefined ? {} : { backendData }),
    ...(backendV6Data === undefined ? {} : { backendV6Data }),
  };
}
