// What the kernel offers beyond one packet a system call, as a ladder: each rung is used where it is there and left out
// where it is not. src/dataplane/offloads.ts has the same list with names and reasons.
#ifndef FLANNELETTE_OFFLOADS_H_
#define FLANNELETTE_OFFLOADS_H_

#include <cstddef>
#include <cstdint>

namespace flannelette {

enum Offload : uint32_t {
  kTunVnet = 1 << 0,        // packets of the device come and go with a virtio header (2.6.27)
  kTunTso = 1 << 1,         // the device hands over TCP super-packets and takes them (2.6.27)
  kTunUso = 1 << 2,         // the same for UDP (6.2)
  kTunMultiQueue = 1 << 3,  // several queues of one device (3.8)
  kUdpSegment = 1 << 4,     // UDP_SEGMENT: a train of datagrams in one send (4.18)
  kUdpGro = 1 << 5,         // UDP_GRO: a train of datagrams in one receive (5.0)
  kSendmmsg = 1 << 6,       // several messages in one call (3.0)
  kRecvmmsg = 1 << 7,       // (2.6.33)
};

// One step down the ladder while packets flow.
struct StepDown {
  Offload offload;
  int error;             // errno that made it necessary
  uint32_t address = 0;  // the next hop that it concerns, 0: the offload is off for good
};

// The rungs that a batch stands on. Used by one thread.
class Offloads {
 public:
  explicit Offloads(uint32_t rungs) : rungs_(rungs) {}

  bool Has(Offload offload) const { return (rungs_ & offload) != 0; }

  // Takes a rung away for good.
  void Lose(Offload offload, int error) {
    rungs_ &= ~static_cast<uint32_t>(offload);
    Report({offload, error});
  }
  // Makes a step down known; what nobody takes in time is forgotten.
  void Report(const StepDown& step) {
    if (pending_ < kMaxPending) steps_[pending_++] = step;
  }

  size_t pending() const { return pending_; }
  StepDown Take() { return steps_[--pending_]; }

 private:
  static constexpr size_t kMaxPending = 16;

  uint32_t rungs_;
  size_t pending_ = 0;
  StepDown steps_[kMaxPending];
};

}  // namespace flannelette

#endif
