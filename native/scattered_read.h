// Reading super-packets with gaps in front of each segment's payload, where the segments' headers will go: a train of them
// then lies in memory as it is sent, and one vector describes it. How long headers and payloads will be is guessed from the
// super-packet before; a packet that turns out otherwise is gathered again, as if it had been read in one piece.
#ifndef FLANNELETTE_SCATTERED_READ_H_
#define FLANNELETTE_SCATTERED_READ_H_

#include <cstddef>
#include <cstdint>

#include "layout.h"
#include "segment.h"

namespace flannelette {

class ScatteredRead {
 public:
  // Smaller segments are too many to be worth a vector each.
  static constexpr size_t kMinSegmentBytes = 512;
  static constexpr size_t kMaxVectors = kMaxPacketBytes / kMinSegmentBytes + 1;
  // What one read may fill from the beginning of the packet on.
  static constexpr size_t kMaxBytes = kMaxVectors * (kMinSegmentBytes + kMaxHeaderBytes);

  // Reads one packet to `packet`, and `lead_bytes` that come first to the bytes before it. Returns all bytes read, or a
  // negated errno value (ReadPacket).
  int Read(int fd, uint8_t* packet, size_t lead_bytes);

  // Of the packet read last, with `length` bytes: whether they have gaps now.
  bool HasGaps(size_t length) const { return header_bytes_ > 0 && length > header_bytes_ + segment_bytes_; }
  // Whether the gaps are where this super-packet needs them: payloads are `header_bytes + segment_bytes` apart then.
  bool Suits(const SegmentPlan& plan) const {
    return plan.header_bytes == header_bytes_ && plan.segment_bytes == segment_bytes_;
  }
  // Takes the gaps out.
  void Gather(uint8_t* packet, size_t length) const;

  // What the packet was that was read last: the guess for the next.
  void Learn(const SegmentPlan& plan);
  void LearnNoSuperPacket();

 private:
  // Small packets between super-packets (acknowledgments) are no reason for another guess, many are.
  static constexpr int kMaxOthers = 8;

  size_t header_bytes_ = 0;  // 0: no guess, everything is read in one piece
  size_t segment_bytes_ = 0;
  int others_ = 0;
};

}  // namespace flannelette

#endif
