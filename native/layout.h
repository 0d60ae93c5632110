// How a worker's memory is laid out: one arena of bytes, and one descriptor a packet. src/dataplane/descriptors.ts says
// the same in TypeScript; the addon exports kLayoutVersion, so that an addon left over from another version is noticed.
#ifndef FLANNELETTE_LAYOUT_H_
#define FLANNELETTE_LAYOUT_H_

#include <cstddef>
#include <cstdint>

namespace flannelette {

constexpr int32_t kLayoutVersion = 4;

// A descriptor is a cache line of 32-bit integers in host byte order, for one packet as the device or the socket handed it
// over: on the way out that may be a super-packet (GSO), which goes on the wire as several.
enum DescriptorField : size_t {
  kOffset = 0,            // where the inner packet begins in the arena
  kLength = 1,            // its bytes
  kVerdict = 2,           // kForward, or the number of a drop reason: written by TypeScript between receive and transmit
  kAddress = 3,           // underlay address in host order: where to send (written by TypeScript), or who sent (by receive)
  kPort = 4,              // UDP port that goes with it
  kError = 5,             // errno of transmit, 0 when the kernel took the whole packet
  kSegments = 6,          // packets that it is on the wire, 1 or more; 0: its virtio header does not fit it
  kSentPackets = 7,       // outgoing: how many of them the kernel took,
  kSentBytes = 8,         // and their bytes
  kFirstFailed = 9,       // outgoing, with an error: the first one that the kernel did not take,
  kLastFailed = 10,       // and the last
  kTooBigPackets = 11,    // outgoing: how many of those failed with EMSGSIZE, whatever befell the others; when any did,
  kFirstTooBig = 12,      // the first of them,
  kLastTooBig = 13,       // and the last
  kMerged = 14,           // incoming, after transmit: packets that were written to the device as one, this one among them
  kDescriptorWords = 16,
};

constexpr int32_t kForward = 0;

// Bytes that stay free before each packet, so that a header can be put before it without moving it.
constexpr size_t kHeadroomBytes = 128;

// More than any read from the device and any datagram has (65,507 bytes, RFC 768 over IPv4), so nothing is ever cut off.
constexpr size_t kMaxPacketBytes = 65536;

// Datagrams are received into places that are fixed before their sizes are known. The odd bytes spread the beginnings
// of the packets, which is what gets read, over all sets of the processor's caches.
constexpr size_t kDatagramPlaceBytes = kMaxPacketBytes + 33 * 64;
static_assert(kDatagramPlaceBytes >= kHeadroomBytes + kMaxPacketBytes);

}  // namespace flannelette

#endif
