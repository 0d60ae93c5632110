// The way out as a whole: packets and super-packets come off a device, some are forwarded to a few next hops, and a kernel
// that fails as it likes takes them. Each packet is delivered as it is on the wire, in the order of its next hop, or counted
// as failed, and what Cut shows is what was sent.
#include "encap_batch.h"

#include <cstring>

#include "batch_run.h"

using namespace flannelette;

namespace {

constexpr size_t kCapacity = 12;
constexpr size_t kArenaBytes = 3 * (kHeadroomBytes + ScatteredRead::kMaxBytes) + kMaxPacketBytes;
constexpr size_t kCutOffset = kArenaBytes - kMaxPacketBytes;
constexpr size_t kQuotedBytes = 576;  // of a packet that is not shown whole
constexpr uint32_t kHops = 3;
constexpr int32_t kTunnelPort = 8285;
constexpr int32_t kDropped = 4;
constexpr size_t kMaxSegmentsShown = 5;

// What a read of the device has to become.
struct Outcome {
  std::string packet;               // without the virtio header, its checksum complete; super-packets as they came
  size_t segment_bytes = 0;         // 0: no super-packet
  bool malformed = false;           // the virtio header contradicts the packet
  std::vector<std::string> sent{};  // as it is on the wire, after the walk
};

Outcome OutcomeOf(const std::string& read, bool virtio_header) {
  if (!virtio_header) return {read};
  VirtioHeader virtio;
  memcpy(&virtio, read.data(), sizeof virtio);
  Outcome expected{read.substr(sizeof virtio)};
  std::string& packet = expected.packet;
  if (IsSuperPacket(virtio)) {
    SegmentPlan plan;  // PlanSegments itself is the target `cut`
    const int segments = PlanSegments(virtio, reinterpret_cast<const uint8_t*>(packet.data()), packet.size(), &plan);
    expected.malformed = segments <= 0;
    if (segments > 0) expected.segment_bytes = std::max<size_t>(1, plan.segment_bytes);
  } else if (NeedsChecksum(virtio)) {
    expected.malformed = CompleteChecksum(virtio, reinterpret_cast<uint8_t*>(&packet[0]), packet.size()) < 0;
  }
  return expected;
}

class Run : BatchRun<EncapBatch, kCapacity, kArenaBytes> {
 public:
  explicit Run(FuzzInput* input)
      : BatchRun(input, kSendmmsg | (input->Byte() & (kTunVnet | kTunTso | kTunUso | kUdpSegment))) {}

  void Round(ScriptedPackets* script) {
    const bool virtio_header = (offloads_ & kTunVnet) != 0;
    std::vector<Outcome> coming;
    for (uint32_t count = input_->Between(1, 10); count > 0; count--) {
      const std::string read = virtio_header ? script->NextWithVirtioHeader() : script->Next();
      kernel_.from_device.push_back(read);
      if (read.size() >= (virtio_header ? kVirtioHeaderBytes : 0)) coming.push_back(OutcomeOf(read, virtio_header));
    }
    kernel_.faulty = input_->Flag();
    ReceiveAll(&coming, [this](Outcome* expected, size_t count) { Handle(expected, count); });
    kernel_.from_device.clear();
  }

 private:
  std::string Shown(size_t index, int32_t segment) {
    const size_t shown = static_cast<size_t>(batch_.Cut(index, segment, kQuotedBytes));
    const std::string quoted = Arena(kCutOffset, std::min(shown, kQuotedBytes));
    const size_t length = static_cast<size_t>(batch_.Cut(index, segment, kMaxPacketBytes));
    const std::string whole = Arena(kCutOffset, length);
    EXPECT(shown == length && whole.compare(0, quoted.size(), quoted) == 0);
    return whole;
  }

  void Handle(Outcome* expected, size_t count) {
    for (size_t index = 0; index < count; index++) Walk(&expected[index], index);
    for (size_t index = 0; index < count; index++) Show(expected[index], index);
    kernel_.to_network.clear();
    batch_.Transmit(count);
    for (uint32_t hop = 0; hop < kHops; hop++) Settle(expected, count, hop);
    for (size_t index = 0; index < count; index++) Show(expected[index], index);
  }

  // As src/dataplane/encap.ts does.
  void Walk(Outcome* expected, size_t index) {
    const size_t offset = static_cast<size_t>(Field(index, kOffset));
    const size_t length = static_cast<size_t>(Field(index, kLength));
    std::string packet = expected->packet;
    EXPECT(length == packet.size() && offset >= kHeadroomBytes && offset + length <= kCutOffset);
    EXPECT((Field(index, kSegments) == 0) == expected->malformed);
    const bool super = expected->segment_bytes > 0;
    if (!super) EXPECT(Arena(offset, length) == packet);
    Field(index, kVerdict) = kDropped;
    if (!IsWellFormed(packet) || expected->malformed || input_->Byte() % 8 == 7) {
      if (!super) expected->sent = {packet};
      else expected->sent = ReferenceCut(packet.substr(0, WordAt(packet, 2)), expected->segment_bytes);
      return;
    }
    packet.resize(WordAt(packet, 2));
    Field(index, kLength) = static_cast<int32_t>(packet.size());
    packet[8]--;
    Arena()[offset + 8]--;
    expected->packet = packet;
    expected->sent = super ? ReferenceCut(packet, expected->segment_bytes) : std::vector<std::string>{packet};
    EXPECT(static_cast<size_t>(Field(index, kSegments)) == expected->sent.size());
    Field(index, kVerdict) = kForward;
    Field(index, kAddress) = static_cast<int32_t>(input_->Below(kHops));
    Field(index, kPort) = kTunnelPort;
  }

  void Show(const Outcome& expected, size_t index) {
    if (expected.segment_bytes == 0) {
      EXPECT(Shown(index, 0) == expected.packet.substr(0, static_cast<size_t>(Field(index, kLength))));
      return;
    }
    const std::string whole = Shown(index, EncapBatch::kWhole);
    EXPECT(whole == expected.packet.substr(0, WordAt(expected.packet, 2)));
    for (size_t segment = 0; segment < std::min(kMaxSegmentsShown, expected.sent.size()); segment++) {
      EXPECT(Shown(index, static_cast<int32_t>(segment)) == expected.sent[segment]);
    }
    EXPECT(Shown(index, static_cast<int32_t>(expected.sent.size() - 1)) == expected.sent.back());
  }

  // What went to a hop is what was to go there, in order, but for what is counted as failed.
  void Settle(const Outcome* expected, size_t count, uint32_t hop) {
    std::vector<const std::string*> arrived;
    for (const StubDatagram& datagram : kernel_.to_network) {
      if (datagram.address == hop) arrived.push_back(&datagram.bytes);
    }
    size_t next = 0;
    for (size_t index = 0; index < count; index++) {
      if (Field(index, kVerdict) != kForward || static_cast<uint32_t>(Field(index, kAddress)) != hop) continue;
      const std::vector<std::string>& sent = expected[index].sent;
      const size_t lost = sent.size() - static_cast<size_t>(Field(index, kSentPackets));
      EXPECT((Field(index, kError) == 0) == (lost == 0));
      if (!kernel_.faulty && sent[0].size() <= 65507) EXPECT(lost == 0);
      int32_t bytes = 0;
      size_t segment = 0;
      for (size_t got = lost; got < sent.size(); got++, next++) {
        if (!EXPECT(next < arrived.size())) return;
        while (segment < sent.size() && sent[segment] != *arrived[next]) segment++;
        if (!EXPECT(segment < sent.size())) return;
        bytes += static_cast<int32_t>(sent[segment++].size());
      }
      EXPECT(bytes == Field(index, kSentBytes));
      if (lost == 0) continue;
      const int32_t first = Field(index, kFirstFailed);
      const int32_t last = Field(index, kLastFailed);
      EXPECT(first >= 0 && first <= last && static_cast<size_t>(last) < sent.size());
      EXPECT(static_cast<size_t>(last - first) + 1 >= lost);
      const int32_t too_big = Field(index, kTooBigPackets);
      EXPECT(too_big >= 0 && static_cast<size_t>(too_big) <= lost);
      if (too_big == 0) continue;
      EXPECT(Field(index, kFirstTooBig) >= first && Field(index, kLastTooBig) <= last);
      EXPECT(Field(index, kLastTooBig) - Field(index, kFirstTooBig) + 1 >= too_big);
    }
    EXPECT(next == arrived.size());
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t length) { return RunRounds<Run>(bytes, length); }
