// The way in as a whole: datagrams and trains of them, some with an odd tail, come off a socket; what the walk lets through
// is merged and written to a device that refuses as it likes. Each packet is written once and in the order of its flow, bit
// for bit, or counted as failed.
#include "decap_batch.h"

#include <cstring>
#include <map>
#include <utility>

#include "batch_run.h"

using namespace flannelette;

namespace {

constexpr size_t kCapacity = 24;
constexpr size_t kPlaces = 4;
constexpr size_t kArenaBytes = kPlaces * kDatagramPlaceBytes;
constexpr uint16_t kTunnelPort = 8285;
constexpr int32_t kDropped = 9;

// A datagram as it was on the wire.
struct Datagram {
  uint32_t sender;
  std::string bytes;
};

bool IsFragment(const std::string& packet) { return (WordAt(packet, 6) & 0x3fff) != 0; }

// Packets of UDP with DF may come out of a merge with other ids (coalesce.h, udp_constant_ids).
std::string WithoutMeaninglessId(std::string packet) {
  if (ByteAt(packet, 9) != kUdp || (WordAt(packet, 6) & 0x4000) == 0) return packet;
  SetWord(&packet, 4, 0);
  SetWord(&packet, 10, 0);
  return packet;
}

// What the kernel makes of one write.
std::vector<std::string> OnTheWire(const std::string& written, bool virtio_header) {
  if (!virtio_header) return {written};
  VirtioHeader virtio;
  EXPECT(written.size() >= sizeof virtio);
  memcpy(&virtio, written.data(), sizeof virtio);
  const std::string packet = written.substr(sizeof virtio);
  if (!IsSuperPacket(virtio)) return {packet};
  EXPECT(virtio.flags == VIRTIO_NET_HDR_F_NEEDS_CSUM && virtio.gso_size > 0 && packet.size() == WordAt(packet, 2));
  return ReferenceCut(packet, virtio.gso_size);
}

// A packet, and how many were written to the device as one, it among them.
using Carried = std::pair<std::string, int32_t>;

class Run : BatchRun<DecapBatch, kCapacity, kArenaBytes> {
 public:
  explicit Run(FuzzInput* input) : BatchRun(input, kSendmmsg | Rungs(input->Byte())) {}

  void Round(ScriptedPackets* script) {
    std::vector<Datagram> coming;
    for (uint32_t count = input_->Between(1, 6); count > 0; count--) Arrive(script, &coming);
    kernel_.faulty = input_->Flag();
    ReceiveAll(&coming, [this](const Datagram* datagrams, size_t count) { Handle(datagrams, count); });
    EXPECT(kernel_.from_network.empty());
  }

 private:
  static uint32_t Rungs(uint8_t choice) {
    uint32_t rungs = choice & (kTunVnet | kTunTso | kTunUso | kUdpGro);
    if ((rungs & kTunVnet) == 0) rungs &= ~(kTunTso | kTunUso);  // merged packets need the header
    if ((choice & 0x80) == 0) rungs |= kRecvmmsg;
    return rungs;
  }

  std::string Packet(size_t index) {
    return Arena(static_cast<size_t>(Field(index, kOffset)), static_cast<size_t>(Field(index, kLength)));
  }

  // One message of the socket's.
  void Arrive(ScriptedPackets* script, std::vector<Datagram>* coming) {
    const uint8_t kind = input_->Byte();
    StubDatagram message{input_->Below(4), kTunnelPort, script->Next(), 0};
    if ((kind & 1) != 0 && (offloads_ & kUdpGro) != 0 && !message.bytes.empty()) {
      const size_t step = message.bytes.size();
      for (uint32_t more = kind >> 4; more > 0; more--) {
        const std::string next = script->Next();
        if (next.empty() || message.bytes.size() + next.size() > 65507) break;
        message.bytes += next.substr(0, step);
        if (next.size() < step) break;
      }
      message.train_datagram_bytes = static_cast<uint32_t>(step);
    }
    const size_t step = std::max<size_t>(1, message.train_datagram_bytes > 0 ? message.train_datagram_bytes
                                                                            : message.bytes.size());
    size_t at = 0;
    do {
      coming->push_back({message.address, message.bytes.substr(at, step)});
      at += step;
    } while (at < message.bytes.size());
    kernel_.from_network.push_back(message);
  }

  void Handle(const Datagram* coming, size_t count) {
    std::vector<std::string> forwarded(count);
    for (size_t index = 0; index < count; index++) {
      const size_t offset = static_cast<size_t>(Field(index, kOffset));
      EXPECT(offset + static_cast<size_t>(Field(index, kLength)) <= kArenaBytes && Field(index, kSegments) == 1);
      EXPECT(Packet(index) == coming[index].bytes && static_cast<uint32_t>(Field(index, kAddress)) == coming[index].sender);
      EXPECT(Field(index, kPort) == kTunnelPort);
      Field(index, kVerdict) = kDropped;
      if (!IsWellFormed(coming[index].bytes) || input_->Byte() % 8 == 7) continue;
      Field(index, kVerdict) = kForward;
      Field(index, kLength) = static_cast<int32_t>(WordAt(coming[index].bytes, 2));
      forwarded[index] = Packet(index);
    }
    kernel_.to_device.clear();
    batch_.Transmit(count);
    std::vector<Carried> arrived;
    for (const std::string& written : kernel_.to_device) {
      const std::vector<std::string> packets = OnTheWire(written, (offloads_ & kTunVnet) != 0);
      for (const std::string& packet : packets) arrived.emplace_back(packet, static_cast<int32_t>(packets.size()));
    }
    Compare(forwarded, arrived);
  }

  // Each packet of a flow once, in the flow's order, and nothing else; and each is said to be merged with as many as it was.
  void Compare(const std::vector<std::string>& forwarded, const std::vector<Carried>& arrived) {
    std::map<std::string, std::vector<Carried>> expected;
    std::map<std::string, std::vector<Carried>> got;
    for (size_t index = 0; index < forwarded.size(); index++) {
      const int32_t merged = Field(index, kMerged);
      if (Field(index, kVerdict) != kForward) {
        EXPECT(merged == 1);
        continue;
      }
      const bool written = Field(index, kError) == 0;
      if (!kernel_.faulty) EXPECT(written);
      if (written) expected[FlowOf(forwarded[index])].emplace_back(WithoutMeaninglessId(forwarded[index]), merged);
    }
    for (const Carried& one : arrived) got[FlowOf(one.first)].emplace_back(WithoutMeaninglessId(one.first), one.second);
    EXPECT(got == expected);
  }

  static std::string FlowOf(const std::string& packet) {
    const size_t ip = IpHeaderBytes(packet);
    const std::string hosts = packet.substr(9, 1) + packet.substr(12, 8);
    return IsFragment(packet) || packet.size() < ip + 4 ? hosts : hosts + packet.substr(ip, 4);
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t length) { return RunRounds<Run>(bytes, length); }
