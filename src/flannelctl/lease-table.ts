import type { LeaseAnswer } from '../observe/control-protocol.js';
import { formatIpv4, formatPrefix } from '../packet/address.js';
import { backendTypeOf, type Lease } from '../subnet/lease.js';
import type { Paint } from './paint.js';
import { formatTable } from './table.js';
import { wordMoment } from './wording.js';

/** The table of `flannelctl leases`, ordered by subnet as the daemon sends it; our own lease is marked with `*`. */
export function leaseTable(leases: readonly LeaseAnswer[], paint: Paint, nowMs: number): string[] {
  return formatTable(
    [
      { title: '' },
      { title: 'SUBNET' },
      { title: 'PUBLIC IP' },
      { title: 'RESERVED' },
      { title: 'EXPIRES' },
      { title: 'BACKEND' },
    ],
    leases.map((lease) => [
      lease.own ? '*' : '',
      lease.subnet,
      lease.publicIP,
      lease.reserved ? 'yes' : 'no',
      expiry(lease, nowMs),
      lease.backendType === '' ? 'udp' : lease.backendType,
    ]),
    paint,
    (row, _column, text) => (leases[row].own ? paint.good(text) : text),
  );
}

function expiry(lease: LeaseAnswer, nowMs: number): string {
  if (lease.reserved) return 'never';
  return lease.expires === null ? '-' : wordMoment(lease.expires, nowMs);
}

/** A lease of the store in the shape the daemon answers in; none of them is known to be this node's. */
export function leaseAnswer(lease: Lease): LeaseAnswer {
  return {
    subnet: formatPrefix(lease.subnet),
    publicIP: formatIpv4(lease.publicIp),
    reserved: lease.reserved,
    expires: lease.expiresAtMs === undefined ? null : new Date(lease.expiresAtMs).toISOString(),
    backendType: backendTypeOf(lease),
    own: false,
  };
}
