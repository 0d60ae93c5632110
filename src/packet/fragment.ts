/** Fragmentation as an IPv4 router does it: RFC 791, sections 2.3 and 3.2. Off the hot path: it allocates. */
import {
  FLAG_MORE_FRAGMENTS,
  FRAGMENT_OFFSET_MASK,
  IPV4_HEADER_BYTES,
  IPV4_MAX_BYTES,
  ipv4DontFragment,
  ipv4FragmentWord,
  ipv4HeaderBytes,
  ipv4TotalBytes,
  writeIpv4Checksum,
} from './ipv4.js';

/** What offsets count. */
const FRAGMENT_UNIT_BYTES = 8;

const OPTION_END = 0;
const OPTION_NO_OPERATION = 1;
const OPTION_COPIED = 0x80;

/**
 * Cuts the well-formed packet at `offset` into packets of at most `mtuBytes`, each a Buffer of its own. A packet that
 * fits is returned whole; fragments are cut further where need be.
 * @returns `undefined` when the packet forbids it (DF), `mtuBytes` leaves no room for eight bytes of payload, or the packet is
 * a fragment that ends where no datagram does: offsets of what follows it would begin anew
 */
export function fragmentIpv4(packet: Buffer, offset: number, mtuBytes: number): Buffer[] | undefined {
  const totalBytes = ipv4TotalBytes(packet, offset);
  if (totalBytes <= mtuBytes) return [Buffer.from(packet.subarray(offset, offset + totalBytes))];
  if (ipv4DontFragment(packet, offset)) return undefined;

  const firstHeader = packet.subarray(offset, offset + ipv4HeaderBytes(packet, offset));
  const laterHeader = headerOfLaterFragments(firstHeader);
  const word = ipv4FragmentWord(packet, offset);
  const firstUnit = word & FRAGMENT_OFFSET_MASK;
  const payload = packet.subarray(offset + firstHeader.length, offset + totalBytes);

  if (firstUnit * FRAGMENT_UNIT_BYTES + payload.length > IPV4_MAX_BYTES) return undefined;

  const fragments: Buffer[] = [];
  let sent = 0;
  while (sent < payload.length) {
    const header = sent === 0 ? firstHeader : laterHeader;
    const room = mtuBytes - header.length;
    let bytes = payload.length - sent;
    if (bytes > room) bytes = room & ~(FRAGMENT_UNIT_BYTES - 1);
    if (bytes <= 0) return undefined;
    const last = sent + bytes === payload.length;
    const fragment = Buffer.concat([header, payload.subarray(sent, sent + bytes)]);
    fragment.writeUInt16BE(fragment.length, 2);
    const more = last ? word & FLAG_MORE_FRAGMENTS : FLAG_MORE_FRAGMENTS;
    fragment.writeUInt16BE(more | (firstUnit + sent / FRAGMENT_UNIT_BYTES), 6);
    writeIpv4Checksum(fragment, 0);
    fragments.push(fragment);
    sent += bytes;
  }
  return fragments;
}

/** The header with only those options that RFC 791 has copied into every fragment, padded to a multiple of four. */
function headerOfLaterFragments(header: Buffer): Buffer {
  const copied: Buffer[] = [];
  let at = IPV4_HEADER_BYTES;
  while (at < header.length && header[at] !== OPTION_END) {
    if (header[at] === OPTION_NO_OPERATION) {
      at++;
      continue;
    }
    const bytes = at + 1 < header.length ? header[at + 1] : 0;
    // An option that runs out of the header is malformed, and so is what follows it.
    if (bytes < 2 || at + bytes > header.length) break;
    if ((header[at] & OPTION_COPIED) !== 0) copied.push(header.subarray(at, at + bytes));
    at += bytes;
  }
  const options = Buffer.concat(copied);
  const later = Buffer.alloc(IPV4_HEADER_BYTES + Math.ceil(options.length / 4) * 4, OPTION_END);
  header.copy(later, 0, 0, IPV4_HEADER_BYTES);
  options.copy(later, IPV4_HEADER_BYTES);
  later[0] = 0x40 | (later.length / 4);
  return later;
}
