// Cutting, held against the reference of packets.h, and fed with what nobody should send.
#include <cerrno>
#include <cstring>
#include <memory>

#include "packets.h"
#include "segment.h"

using namespace flannelette;

namespace {

// Where a sanitizer notices each byte read or written beyond the end.
struct Exact {
  explicit Exact(const std::string& content) : bytes(new uint8_t[content.size()]), length(content.size()) {
    memcpy(bytes.get(), content.data(), length);
  }
  explicit Exact(size_t size) : bytes(new uint8_t[size]()), length(size) {}
  std::unique_ptr<uint8_t[]> bytes;
  size_t length;
};

VirtioHeader HeaderFor(const std::string& packet, size_t segment_bytes) {
  VirtioHeader virtio{};
  virtio.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
  virtio.gso_type = IsTcp(packet) ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_UDP_L4;
  virtio.hdr_len = static_cast<uint16_t>(HeaderBytes(packet));
  virtio.gso_size = static_cast<uint16_t>(segment_bytes);
  virtio.csum_start = static_cast<uint16_t>(IpHeaderBytes(packet));
  virtio.csum_offset = static_cast<uint16_t>(ChecksumAt(packet) - IpHeaderBytes(packet));
  return virtio;
}

std::string Text(const uint8_t* bytes, size_t length) {
  return std::string(reinterpret_cast<const char*>(bytes), length);
}

// Headers elsewhere, payload where it was read to, in runs of `run` segments.
std::vector<std::string> CutBeside(const SegmentPlan& plan, const Exact& packet, uint32_t run) {
  std::vector<std::string> segments;
  const uint8_t* const payload = packet.bytes.get() + plan.header_bytes;
  for (uint32_t first = 0; first < plan.count; first += run) {
    const uint32_t count = std::min(run, plan.count - first);
    const Exact headers(size_t{count} * plan.header_bytes);
    WriteSegmentHeaders(plan, packet.bytes.get(), payload, plan.segment_bytes, first, count, headers.bytes.get(),
                        plan.header_bytes);
    for (uint32_t index = first; index < first + count; index++) {
      segments.push_back(Text(headers.bytes.get() + (index - first) * plan.header_bytes, plan.header_bytes) +
                         Text(payload + size_t{index} * plan.segment_bytes, plan.SegmentPayloadBytes(index)));
    }
  }
  return segments;
}

// Payload with gaps, into which the headers go: what is sent is contiguous.
std::vector<std::string> CutInPlace(const SegmentPlan& plan, const std::string& packet) {
  const size_t stride = plan.header_bytes + plan.segment_bytes;
  const Exact train(size_t{plan.count} * plan.header_bytes + plan.payload_bytes);
  memcpy(train.bytes.get(), packet.data(), plan.header_bytes);
  for (uint32_t index = 0; index < plan.count; index++) {
    memcpy(train.bytes.get() + index * stride + plan.header_bytes,
           packet.data() + plan.header_bytes + size_t{index} * plan.segment_bytes, plan.SegmentPayloadBytes(index));
  }
  uint8_t* const out = train.bytes.get();
  WriteSegmentHeaders(plan, out, out + plan.header_bytes, stride, 0, plan.count, out, stride);
  std::vector<std::string> segments;
  for (uint32_t index = 0; index < plan.count; index++) {
    segments.push_back(Text(out + index * stride, plan.header_bytes + plan.SegmentPayloadBytes(index)));
  }
  return segments;
}

void SegmentsAreWhatTheReferenceMakes(Random* random) {
  for (int round = 0; round < 1500; round++) {
    PacketShape shape = RandomShape(random);
    if (random->OneIn(4)) shape.ip_options = RandomBytes(random, 4 * random->Below(11));
    shape.flags = static_cast<uint8_t>(random->Word());
    shape.reserved = static_cast<uint8_t>(random->Below(16));
    const size_t headers = HeaderBytes(MakePacket(shape, ""));
    const size_t most = 65535 - headers;
    const size_t length = random->OneIn(4) ? random->Between(static_cast<uint32_t>(most) - 3, static_cast<uint32_t>(most))
                                           : random->Below(12000);
    std::string packet = MakePacket(shape, RandomBytes(random, length));
    CompletePartially(&packet);
    const size_t segment_bytes = length > 12000 ? random->Between(500, 65535) : random->Between(1, 2000);
    SegmentPlan plan;
    // What a link appended is no part of the packet.
    const Exact read(packet + std::string(random->OneIn(3) ? random->Below(40) : 0, 'p'));
    VirtioHeader virtio = HeaderFor(packet, segment_bytes);
    if (shape.tcp && random->OneIn(2)) virtio.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
    if (random->OneIn(4)) virtio.flags = 0;
    const int planned = PlanSegments(virtio, read.bytes.get(), read.length, &plan);
    const std::vector<std::string> expected = ReferenceCut(packet, segment_bytes);
    if (!EXPECT(planned == static_cast<int>(expected.size()))) continue;
    EXPECT(CutBeside(plan, read, random->Between(1, plan.count)) == expected);
    EXPECT(CutInPlace(plan, packet) == expected);
  }
}

void SegmentsFollowTheHeaderAsItIsWhenTheyAreWritten() {
  PacketShape shape;
  std::string packet = MakePacket(shape, std::string(4000, 'x'));
  CompletePartially(&packet);
  SegmentPlan plan;
  Exact read(packet);
  EXPECT(PlanSegments(HeaderFor(packet, 1420), read.bytes.get(), read.length, &plan) == 3);
  read.bytes[8]--;  // one hop; the header's checksum is nobody's matter before it is cut
  shape.ttl--;
  EXPECT(CutBeside(plan, read, 3) == ReferenceCut(MakePacket(shape, std::string(4000, 'x')), 1420));
}

// Every checksum that there can be, with the field's own edge cases: 0 and 0xffff.
void EveryChecksumIsRight() {
  for (const bool tcp : {true, false}) {
    PacketShape shape;
    shape.tcp = tcp;
    for (uint32_t value = 0; value <= 0xffff; value += 1) {
      std::string payload(4, '\0');
      SetWord(&payload, 0, value);
      const std::string packet = MakePacket(shape, payload);
      SegmentPlan plan;
      const Exact read(packet);
      PlanSegments(HeaderFor(packet, 4), read.bytes.get(), read.length, &plan);
      const std::string cut = CutBeside(plan, read, 1)[0];
      if (!EXPECT(cut == packet)) return;
      EXPECT(tcp || WordAt(cut, 26) != 0);
    }
  }
}

void ContradictionsAreRefused() {
  const std::string tcp = MakePacket(PacketShape{}, std::string(3000, 'x'));
  PacketShape udp_shape;
  udp_shape.tcp = false;
  const std::string udp = MakePacket(udp_shape, std::string(3000, 'x'));
  const VirtioHeader good = HeaderFor(tcp, 1000);
  SegmentPlan plan;
  const auto planned = [&plan](const VirtioHeader& virtio, const std::string& packet) {
    const Exact read(packet);
    return PlanSegments(virtio, read.bytes.get(), read.length, &plan);
  };
  const auto with = [](const std::string& packet, size_t at, uint32_t word) {
    std::string changed = packet;
    SetWord(&changed, at, word);
    return changed;
  };
  EXPECT(planned(good, tcp) == 3);
  EXPECT(planned(HeaderFor(udp, 1000), udp) == 3);
  for (const uint8_t kind : {3, 4, 2, 6, 7, 0x40}) {
    VirtioHeader virtio = good;
    virtio.gso_type = kind;
    EXPECT(planned(virtio, tcp) == -EPROTONOSUPPORT);
  }
  EXPECT(planned(HeaderFor(udp, 1000), tcp) == -EINVAL);
  EXPECT(planned(good, udp) == -EINVAL);
  EXPECT(planned(HeaderFor(tcp, 0), tcp) == -EINVAL);
  VirtioHeader virtio = good;
  virtio.csum_start++;
  EXPECT(planned(virtio, tcp) == -EINVAL);
  virtio = good;
  virtio.csum_offset = 6;
  EXPECT(planned(virtio, tcp) == -EINVAL);
  virtio = HeaderFor(udp, 1000);
  virtio.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
  EXPECT(planned(virtio, udp) == -EINVAL);
  EXPECT(planned(good, "") == -EINVAL);
  EXPECT(planned(good, tcp.substr(0, 19)) == -EINVAL);
  EXPECT(planned(good, tcp.substr(0, tcp.size() - 1)) == -EINVAL);
  EXPECT(planned(good, with(tcp, 2, 19)) == -EINVAL);
  EXPECT(planned(good, with(tcp, 2, 39)) == -EINVAL);        // ends within the TCP header
  EXPECT(planned(good, with(tcp, 6, 0x2000)) == -EINVAL);    // a first fragment
  EXPECT(planned(good, with(tcp, 6, 0x0001)) == -EINVAL);    // a later one
  EXPECT(planned(good, with(tcp, 0, 0x4400)) == -EINVAL);    // 16 bytes of IPv4 header
  EXPECT(planned(good, with(tcp, 0, 0x6500)) == -EINVAL);    // not IPv4
  EXPECT(planned(good, with(tcp, 32, 0x4010)) == -EINVAL);   // 16 bytes of TCP header
  EXPECT(planned(HeaderFor(udp, 1000), with(udp, 24, 3007)) == -EINVAL);  // UDP's length is another
}

void PartialChecksumsAreCompleted(Random* random) {
  int mangled = 0;
  for (int round = 0; round < 3000; round++) {
    const PacketShape shape = RandomShape(random);
    const std::string payload = RandomBytes(random, random->Below(100));
    std::string packet = MakePacket(shape, payload);
    std::string expected = packet;
    if (round % 3 == 0 && !payload.empty() && payload.size() % 2 == 0) {
      // Makes the checksum come out as zero.
      const size_t last = packet.size() - 2;
      SetWord(&packet, last, 0);
      Complete(&packet);
      SetWord(&packet, last, WordAt(packet, ChecksumAt(packet)) % 0xffff);
      Complete(&packet);
      expected = packet;
      if (WordAt(expected, ChecksumAt(expected)) % 0xffff == 0) mangled++;
    }
    // As skb_checksum_help does, for TCP too.
    if (WordAt(expected, ChecksumAt(expected)) == 0) SetWord(&expected, ChecksumAt(expected), 0xffff);
    CompletePartially(&packet);
    const Exact read(packet);
    VirtioHeader virtio = HeaderFor(packet, 0);
    virtio.gso_type = VIRTIO_NET_HDR_GSO_NONE;
    EXPECT(CompleteChecksum(virtio, read.bytes.get(), read.length) == 0);
    EXPECT(Text(read.bytes.get(), read.length) == expected);
  }
  EXPECT(mangled > 100);
}

void AChecksumBeyondThePacketIsRefused() {
  const std::string packet = MakePacket(PacketShape{}, "payload");
  const std::pair<uint16_t, uint16_t> places[] = {{20, 26}, {46, 0}, {47, 0}, {0xffff, 0xffff}, {19, 16}, {0, 10}};
  for (const auto& [start, offset] : places) {
    const Exact read(packet);
    VirtioHeader virtio{};
    virtio.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    virtio.csum_start = start;
    virtio.csum_offset = offset;
    EXPECT(CompleteChecksum(virtio, read.bytes.get(), read.length) == -EINVAL);
    EXPECT(Text(read.bytes.get(), read.length) == packet);
  }
}

// Nothing may be read or written beyond what is there: the sanitizers look on.
void NonsenseHarmsNothing(Random* random) {
  int cut = 0;
  for (int round = 0; round < 30000; round++) {
    std::string packet = RandomBytes(random, random->Below(120));
    if (!random->OneIn(4)) {
      PacketShape shape = RandomShape(random);
      packet = MakePacket(shape, packet);
      for (uint32_t changes = random->Below(4); changes > 0; changes--) {
        packet[random->Below(static_cast<uint32_t>(std::min<size_t>(packet.size(), 40)))] =
            static_cast<char>(random->Word());
      }
      if (random->OneIn(4)) packet.resize(random->Below(static_cast<uint32_t>(packet.size())));
    }
    uint8_t raw[kVirtioHeaderBytes];
    for (uint8_t& byte : raw) byte = static_cast<uint8_t>(random->OneIn(3) ? random->Word() : random->Below(30));
    VirtioHeader virtio;
    memcpy(&virtio, raw, sizeof virtio);
    if (random->OneIn(2)) {
      virtio.flags &= static_cast<uint8_t>(~VIRTIO_NET_HDR_F_NEEDS_CSUM);
      virtio.gso_type = random->OneIn(2) ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_UDP_L4;
    }
    const Exact read(packet);
    SegmentPlan plan;
    if (PlanSegments(virtio, read.bytes.get(), read.length, &plan) > 0) {
      cut++;
      size_t bytes = 0;
      for (const std::string& segment : CutBeside(plan, read, 16)) bytes += segment.size() - plan.header_bytes;
      EXPECT(bytes == plan.payload_bytes);
      EXPECT(CutInPlace(plan, packet).size() == plan.count);
    }
    CompleteChecksum(virtio, read.bytes.get(), read.length);
  }
  EXPECT(cut > 1000);
}

}  // namespace

int main(int argc, char** argv) {
  Random random(argc, argv);
  SegmentsAreWhatTheReferenceMakes(&random);
  SegmentsFollowTheHeaderAsItIsWhenTheyAreWritten();
  EveryChecksumIsRight();
  ContradictionsAreRefused();
  PartialChecksumsAreCompleted(&random);
  AChecksumBeyondThePacketIsRefused();
  NonsenseHarmsNothing(&random);
  return Summary();
}
