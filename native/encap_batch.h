// An encapsulating worker's batch: from the device to the socket. Memory belongs to the caller (a Buffer and an Int32Array
// of the worker's) and outlives the batch.
//
// A round is Receive, a walk in TypeScript over the descriptors, Transmit. Receive fills kOffset, kLength and kSegments of
// descriptors 0 … result-1; the walk writes kVerdict, kAddress and kPort, and may shorten kLength; Transmit takes those with
// kForward and fills kSentPackets, kSentBytes and kError, and which of a super-packet's parts failed.
#ifndef FLANNELETTE_ENCAP_BATCH_H_
#define FLANNELETTE_ENCAP_BATCH_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "next_hop_groups.h"
#include "offloads.h"
#include "scattered_read.h"
#include "segment.h"
#include "train.h"
#include "wait.h"

namespace flannelette {

class EncapBatch {
 public:
  static constexpr int32_t kWhole = -1;

  // `descriptors` holds `capacity` of them. The last kMaxPacketBytes of the arena are where Cut writes.
  EncapBatch(uint8_t* arena, size_t arena_bytes, int32_t* descriptors, size_t capacity, int tun, int socket, int wakeup,
             uint32_t offloads);

  // Takes packets off the device until there are no more, the descriptors are used up, or the arena has no room for one
  // of the largest size. With nothing there it sleeps first. Returns how many came; 0 when `wakeup` ended the sleep;
  // below zero a negated errno value. A packet that the kernel could not hand over counts as one, with a length of 0:
  // nothing after it waits. Checksums that the kernel left partial are complete then, but those of
  // super-packets, which are only known once they are cut.
  int Receive();
  // Sends every packet with the verdict kForward to its kAddress and kPort, super-packets as the packets that they are on
  // the wire.
  void Transmit(size_t count);

  // Writes packet `segment` of those that descriptor `index` is on the wire, or with kWhole the super-packet itself, to
  // the end of the arena, for who has to be shown it: before Transmit or after. Its headers are there, and so much of the
  // rest that there are at least `kept_bytes`. Returns the bytes that it has. Valid until the next Receive.
  int Cut(size_t index, int32_t segment, size_t kept_bytes);

  Offloads& offloads() { return offloads_; }

 private:
  // What there is to know of a super-packet beside its descriptor.
  struct SuperPacket {
    SegmentPlan plan;  // a count of 0: the packet is none
    bool gaps;         // payloads lie header_bytes apart, ScatteredRead
    bool kept;         // Transmit has put the headers by, for their own place may take those of the first segment
    uint8_t headers[kMaxHeaderBytes];

    size_t stride() const { return plan.segment_bytes + (gaps ? plan.header_bytes : 0); }
  };

  int DrainDevice();
  int32_t Examine(size_t index, const VirtioHeader& virtio);
  int32_t* Descriptor(size_t index);
  uint8_t* Packet(size_t index);

  uint8_t* const arena_;
  const size_t receive_bytes_;  // of the arena
  int32_t* const descriptors_;
  const size_t capacity_;
  const int tun_;
  Waiter waiter_;
  Offloads offloads_;
  TrainSender sender_;
  NextHopGroups groups_;
  ScatteredRead reader_;
  const std::unique_ptr<SuperPacket[]> super_packets_;  // a descriptor each
};

}  // namespace flannelette

#endif
