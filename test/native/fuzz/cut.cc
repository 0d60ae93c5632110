// Cutting: a virtio header and a packet, both of which may say anything. What is refused stays untouched, and what is cut
// is, segment by segment and wherever payloads lie, what the reference makes of it.
#include <cerrno>
#include <cstring>
#include <memory>

#include "fuzz_input.h"
#include "scripted_packets.h"
#include "segment.h"

using namespace flannelette;

namespace {

// More of one super-packet would only take time.
constexpr uint32_t kMaxSegments = 12;

struct Bytes {
  explicit Bytes(size_t length) : memory(new uint8_t[length]()) {}
  explicit Bytes(const std::string& from) : Bytes(from.size()) { memcpy(memory.get(), from.data(), from.size()); }
  std::string Part(size_t offset, size_t length) const {
    return std::string(reinterpret_cast<const char*>(memory.get()) + offset, length);
  }
  std::unique_ptr<uint8_t[]> memory;
};

// Headers apart from the payload, which lies as it was read.
void CutApart(const SegmentPlan& plan, const std::string& packet, uint32_t first, uint32_t count) {
  const Bytes whole(packet);
  const Bytes headers(count * plan.header_bytes);
  const uint8_t* const payload = whole.memory.get() + plan.header_bytes;
  WriteSegmentHeaders(plan, whole.memory.get(), payload, plan.segment_bytes, first, count, headers.memory.get(),
                      plan.header_bytes);
  EXPECT(whole.Part(0, packet.size()) == packet);
  for (uint32_t index = first; index < first + count; index++) {
    const std::string header = headers.Part((index - first) * plan.header_bytes, plan.header_bytes);
    const std::string data = packet.substr(plan.header_bytes + size_t{index} * plan.segment_bytes, plan.segment_bytes);
    EXPECT(header + data == ReferenceSegment(packet, plan.segment_bytes, index));
  }
}

// Headers into gaps before each payload; the first takes the place of the super-packet's own.
void CutWithGaps(const SegmentPlan& plan, const std::string& packet) {
  const size_t stride = plan.header_bytes + plan.segment_bytes;
  const Bytes place(plan.count * plan.header_bytes + plan.payload_bytes);
  memcpy(place.memory.get(), packet.data(), plan.header_bytes);
  for (uint32_t index = 0; index < plan.count; index++) {
    memcpy(place.memory.get() + index * stride + plan.header_bytes,
           packet.data() + plan.header_bytes + size_t{index} * plan.segment_bytes, plan.SegmentPayloadBytes(index));
  }
  uint8_t headers[kMaxHeaderBytes];
  memcpy(headers, packet.data(), plan.header_bytes);
  WriteSegmentHeaders(plan, headers, place.memory.get() + plan.header_bytes, stride, 0, plan.count, place.memory.get(),
                      stride);
  for (uint32_t index = 0; index < plan.count; index++) {
    EXPECT(place.Part(index * stride, plan.header_bytes + plan.SegmentPayloadBytes(index)) ==
           ReferenceSegment(packet, plan.segment_bytes, index));
  }
}

void Cut(const VirtioHeader& virtio, const std::string& packet, uint32_t where) {
  SegmentPlan plan;
  const Bytes memory(packet);
  const int segments = PlanSegments(virtio, memory.memory.get(), packet.size(), &plan);
  EXPECT(memory.Part(0, packet.size()) == packet);
  if (segments <= 0) {
    EXPECT(segments == -EINVAL || segments == -EPROTONOSUPPORT);
    return;
  }
  const std::string whole = packet.substr(0, WordAt(packet, 2));
  EXPECT(plan.count == static_cast<uint32_t>(segments));
  EXPECT(plan.header_bytes == HeaderBytes(whole) && plan.header_bytes + plan.payload_bytes == whole.size());
  EXPECT(plan.segment_bytes <= virtio.gso_size && plan.SegmentPayloadBytes(plan.count - 1) <= plan.segment_bytes);
  const uint32_t first = where % plan.count;
  CutApart(plan, whole, first, std::min(plan.count - first, kMaxSegments));
  if (plan.count <= kMaxSegments) CutWithGaps(plan, whole);
}

void Complete(const VirtioHeader& virtio, const std::string& packet) {
  const Bytes memory(packet);
  const int result = CompleteChecksum(virtio, memory.memory.get(), packet.size());
  std::string expected = packet;
  const size_t start = virtio.csum_start;
  const size_t field = start + virtio.csum_offset;
  const bool fits = start >= kIpHeaderBytes && field + 2 <= packet.size();
  EXPECT(result == (fits ? 0 : -EINVAL));
  if (fits) {
    uint32_t sum = 0;
    for (size_t at = start; at < packet.size(); at++) {
      sum += (at - start) % 2 == 0 ? ByteAt(packet, at) << 8 : ByteAt(packet, at);
      if (sum > 0xffff) sum -= 0xffff;
    }
    SetWord(&expected, field, sum == 0xffff ? 0xffff : ~sum & 0xffff);
  }
  EXPECT(memory.Part(0, packet.size()) == expected);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t length) {
  FuzzInput input(bytes, length);
  ScriptedPackets packets(&input);
  for (int count = 0; count < 4 && input.left() > 0; count++) {
    const uint32_t where = input.Word();
    const std::string read = packets.NextWithVirtioHeader();
    if (read.size() < kVirtioHeaderBytes) continue;
    VirtioHeader virtio;
    memcpy(&virtio, read.data(), sizeof virtio);
    const std::string packet = read.substr(kVirtioHeaderBytes);
    if (IsSuperPacket(virtio)) Cut(virtio, packet, where);
    if (NeedsChecksum(virtio)) Complete(virtio, packet);
  }
  return EndOfInput();
}
