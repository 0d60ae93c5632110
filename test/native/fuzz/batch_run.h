// What the targets of the two batches have in common: an arena and descriptors, the kernel that the input drives, and rounds
// in which all that comes is received and handled, until the input is used up.
#ifndef FLANNELETTE_FUZZ_BATCH_RUN_H_
#define FLANNELETTE_FUZZ_BATCH_RUN_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fuzz_input.h"
#include "layout.h"
#include "scripted_packets.h"
#include "stub_kernel.h"

namespace flannelette {

template <typename Batch, size_t kCapacity, size_t kArenaBytes>
class BatchRun {
 protected:
  BatchRun(FuzzInput* input, uint32_t offloads)
      : input_(input),
        kernel_(input),
        offloads_(offloads),
        batch_(Arena(), kArenaBytes, descriptors_, kCapacity, kStubDevice, kStubSocket, kStubWakeup, offloads) {}

  // One for all inputs, in memory that ends where it does.
  static uint8_t* Arena() {
    static uint8_t* const arena = new uint8_t[kArenaBytes]();
    return arena;
  }
  static std::string Arena(size_t offset, size_t length) {
    return std::string(reinterpret_cast<const char*>(Arena()) + offset, length);
  }

  int32_t& Field(size_t index, DescriptorField field) { return descriptors_[index * kDescriptorWords + field]; }

  // Receives all that comes, and has `handle(first, count)` do with each batch what a worker does.
  template <typename Coming, typename Handle>
  void ReceiveAll(std::vector<Coming>* coming, Handle handle) {
    size_t done = 0;
    while (done < coming->size()) {
      const int received = batch_.Receive();
      if (!EXPECT(received > 0 && done + static_cast<size_t>(received) <= coming->size())) return;
      handle(&(*coming)[done], static_cast<size_t>(received));
      done += static_cast<size_t>(received);
    }
  }

  FuzzInput* const input_;
  StubKernel kernel_;
  int32_t descriptors_[kCapacity * kDescriptorWords] = {};
  const uint32_t offloads_;
  Batch batch_;
};

// A target's entry: a `Run` has a constructor from the input and a Round.
template <typename Run>
int RunRounds(const uint8_t* bytes, size_t length) {
  FuzzInput input(bytes, length);
  Run run(&input);
  ScriptedPackets script(&input);
  for (int rounds = 0; rounds < 4 && input.left() > 0; rounds++) run.Round(&script);
  return EndOfInput();
}

}  // namespace flannelette

#endif
