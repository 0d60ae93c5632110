// The internet checksum (RFC 1071). Sums are of 16-bit words as they lie in memory, whatever the processor's byte order,
// and what is folded is stored as it is, without swapping (RFC 1071, section 2(B)). Partial sums add up as long as every
// range but the last has an even number of bytes.
#ifndef FLANNELETTE_CHECKSUM_H_
#define FLANNELETTE_CHECKSUM_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace flannelette {

// Adds the bytes of a range to `sum`. Any alignment; an odd last byte counts as if a zero byte followed. A sum holds
// some 4 × 10⁹ calls' worth without overflow.
uint64_t SumBytes(const uint8_t* bytes, size_t length, uint64_t sum);

// The one's complement sum in 16 bits: zero only if everything summed was zero.
constexpr uint16_t FoldSum(uint64_t sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

// What goes into a header: the complement of the sum.
constexpr uint16_t FinishSum(uint64_t sum) { return static_cast<uint16_t>(~FoldSum(sum)); }

// The same for UDP, where zero would mean that there is no checksum (RFC 768).
constexpr uint16_t FinishUdpSum(uint64_t sum) {
  const uint16_t checksum = FinishSum(sum);
  return checksum == 0 ? 0xffff : checksum;
}

// The sum of the pseudo header of TCP and UDP (RFC 9293, section 3.1) of the IPv4 packet at `ip`; `length` is that of the
// TCP or UDP header and what follows it. Its complement is not taken: folded, it is what a partial checksum holds.
uint64_t SumPseudoHeader(const uint8_t* ip, uint8_t protocol, size_t length);

}  // namespace flannelette

#endif
