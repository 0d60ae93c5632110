import { getSystemErrorName } from 'node:util';
import type { TapEvent, TapHello } from '../observe/tap-protocol.js';
import { formatIpv4, formatPrefix } from '../packet/address.js';

/** What became of a packet, in the words that scripts may rely on. */
export type Verdict = 'forwarded' | 'delivered' | 'dropped';

/** What became of an event's packet. */
export function verdictOf({ reason, direction }: TapEvent): Verdict {
  if (reason !== 0) return 'dropped';
  return direction === 'encap' ? 'forwarded' : 'delivered';
}

/** The stable name of why it was dropped; `null` when it was not. */
export function reasonOf({ reason }: TapEvent, hello: TapHello): string | null {
  return reason === 0 ? null : (hello.reasons[reason]?.name ?? `reason-${reason}`);
}

/** The verdict for people: `forwarded to 192.168.64.2:8285 by lease 10.5.2.0/24`. */
export function describeVerdict(event: TapEvent, hello: TapHello): string {
  const { direction, reason, error, underlayAddress, underlayPort, lease } = event;
  const otherEnd = underlayAddress === 0 ? '' : `${formatIpv4(underlayAddress)}:${underlayPort}`;
  const byLease = lease === undefined ? '' : ` by lease ${formatPrefix(lease)}`;
  if (reason === 0) {
    return direction === 'encap' ? `forwarded to ${otherEnd}${byLease}` : `delivered, from ${otherEnd}${byLease}`;
  }
  const meaning = hello.reasons[reason]?.description.split(';')[0] ?? '';
  const refusal = error === 0 ? '' : ` (${getSystemErrorName(-error)})`;
  const where = otherEnd === '' ? '' : direction === 'encap' ? `, to ${otherEnd}` : `, from ${otherEnd}`;
  return `dropped: ${reasonOf(event, hello)}${refusal}${where}${meaning === '' ? '' : `: ${meaning}`}`;
}
