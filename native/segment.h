// Cutting: a TCP or UDP super-packet read from the device becomes the packets that the kernel would have sent without
// segmentation offload (its inet_gso_segment, tcp_gso_segment and __udp_gso_segment). Only headers are written, to where
// the caller says; the payload stays where it is, and the caller sends {header, payload} pairs.
//
// A trip: 10.5.1.6 sends 4,000 bytes to 10.5.34.7 over an MTU of 1,472. The device hands over one packet of 4,052 bytes
// (20 of IPv4, 32 of TCP with a timestamp) and the virtio header TCPV4, gso_size 1,420, NEEDS_CSUM. PlanSegments answers 3;
// the plan says 52 header bytes and segments of 1,420, 1,420 and 1,160. The TypeScript walk forwards the packet and takes
// one hop off the TTL of its header. WriteSegmentHeaders then writes three headers of 52 bytes, each derived from that
// one: total length, id + 0, 1, 2, sequence + 0, 1,420, 2,840, PSH on the last only, and finished checksums.
#ifndef FLANNELETTE_SEGMENT_H_
#define FLANNELETTE_SEGMENT_H_

#include <cstddef>
#include <cstdint>

#include "inner.h"
#include "virtio.h"

namespace flannelette {

struct SegmentPlan {
  uint32_t header_bytes;   // IPv4 and TCP or UDP header, at most kMaxHeaderBytes
  uint32_t payload_bytes;  // of the whole super-packet
  uint32_t segment_bytes;  // of payload in every segment but the last, which has what is left
  uint32_t count;          // segments, at least 1
  uint8_t ip_header_bytes;
  uint8_t protocol;  // kTcp or kUdp

  uint32_t SegmentPayloadBytes(uint32_t index) const {
    return index + 1 < count ? segment_bytes : payload_bytes - (count - 1) * segment_bytes;
  }
};

// For a packet with IsSuperPacket(virtio): how it is cut. Returns the number of segments, which one byte of payload in
// each makes as large as 65,507, so the caller works in runs; 1 when all fits into one, whose header still has to be
// written. Below zero it cannot be cut and has to be dropped: -EPROTONOSUPPORT for a kind of segmentation that was never
// asked for, -EINVAL for headers and sizes that contradict each other.
int PlanSegments(const VirtioHeader& virtio, const uint8_t* packet, size_t length, SegmentPlan* plan);

// Writes the finished headers of segments `first` … `first + count - 1`. `packet` is the super-packet's own header, as it
// is by now. Segment i's payload lies at `payload + i × payload_stride`; its header goes to `out + (i - first) ×
// out_stride`. Payload read in one piece has segment_bytes for a stride; payload read with gaps has header_bytes +
// segment_bytes, and an `out` that is header_bytes before the payload of `first` with the same stride makes the packets
// contiguous. `packet` is not written to unless `out` says so, and may be `out`.
void WriteSegmentHeaders(const SegmentPlan& plan, const uint8_t* packet, const uint8_t* payload, size_t payload_stride,
                         uint32_t first, uint32_t count, uint8_t* out, size_t out_stride);

// For a packet that is not cut but has NeedsChecksum(virtio): completes the checksum at csum_start + csum_offset, which
// holds the sum of the pseudo header, over everything from csum_start to `length`. Like the kernel's skb_checksum_help it
// writes 0xffff for 0, whatever the protocol. 0; or -EINVAL, and the packet is left as it was and has to be dropped.
int CompleteChecksum(const VirtioHeader& virtio, uint8_t* packet, size_t length);

}  // namespace flannelette

#endif
