// Merging: batches of packets of a few flows and of none. What is merged gives back, cut again, exactly what came; nothing
// else is touched; no flow is out of order; and what a refused write takes back is what was there before.
#include "../merged_batch.h"
#include "fuzz_input.h"
#include "scripted_packets.h"

using namespace flannelette;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t length) {
  FuzzInput input(bytes, length);
  const uint8_t asked = input.Byte();
  const CoalesceOptions options{(asked & 1) == 0, (asked & 2) == 0, (asked & 4) == 0};
  const size_t max_payload = (asked & 0xe0) == 0xe0 ? 30000 : 1500;
  ScriptedPackets script(&input);
  std::vector<std::string> packets;
  while (packets.size() < 48 && input.left() > 0) {
    std::string packet = script.Next(max_payload);
    // The walk has refused what is no packet and cut off what is beyond it; but merging is asked of all sorts, too.
    if ((asked & 8) == 0) {
      if (!IsWellFormed(packet)) continue;
      packet.resize(WordAt(packet, 2));
    }
    packets.push_back(packet);
  }
  const MergedBatch batch(packets, options);
  ExpectInvisible(batch, !options.udp_constant_ids);
  ExpectOrder(batch);
  for (size_t position = 0; position < batch.carried.size(); position++) batch.coalescer->Undo(position);
  for (size_t index = 0; index < packets.size(); index++) EXPECT(batch.Memory(index) == packets[index]);
  return EndOfInput();
}
