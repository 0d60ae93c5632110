// Packets that an input's bytes describe: a few flows that go on as flows do, whatever may be wrong with a packet of a flow,
// and bytes that are no packet at all. So merging and cutting are reached by most inputs and not by lucky ones only.
#ifndef FLANNELETTE_FUZZ_SCRIPTED_PACKETS_H_
#define FLANNELETTE_FUZZ_SCRIPTED_PACKETS_H_

#include <cstdint>
#include <string>

#include "../packets.h"
#include "fuzz_input.h"
#include "inner.h"
#include "virtio.h"

namespace flannelette {

// Whether the header agrees with what is there: what src/dataplane/inner-packet.ts lets pass.
inline bool IsWellFormed(const std::string& packet) {
  if (packet.size() < kIpHeaderBytes || ByteAt(packet, 0) >> 4 != 4) return false;
  const size_t total = WordAt(packet, 2);
  return IpHeaderBytes(packet) >= kIpHeaderBytes && total >= IpHeaderBytes(packet) && total <= packet.size();
}

class ScriptedPackets {
 public:
  explicit ScriptedPackets(FuzzInput* input) : input_(input) {
    for (size_t number = 0; number < kFlows; number++) {
      PacketShape& flow = flows_[number];
      flow.tcp = number % 2 == 0;
      flow.source_port = static_cast<uint16_t>(40000 + number / 2);
    }
    flows_[kFlows - 1].id = 0;
  }

  // The next packet of some flow, or something else.
  std::string Next(size_t max_payload = 1500) {
    const uint8_t choice = input_->Byte();
    if (choice >= 0xf0) return input_->Bytes(input_->Byte());
    PacketShape* const flow = &flows_[choice % kFlows];
    if ((choice & 0x80) != 0) payload_ = input_->Below(static_cast<uint32_t>(max_payload) + 1);
    PacketShape shape = *flow;
    if ((choice & 0x40) != 0) Disturb(&shape);
    const std::string payload = input_->Filling(payload_);
    std::string packet = MakePacket(shape, payload);
    if ((choice & 0x20) != 0) Damage(&packet);
    flow->sequence += static_cast<uint32_t>(payload.size());
    if (flow != &flows_[kFlows - 1]) flow->id++;
    return packet;
  }

  // A super-packet as the kernel hands it over, or nearly so: a virtio header and what follows it.
  std::string NextWithVirtioHeader() {
    const uint8_t kind = input_->Byte();
    std::string packet = Next((kind & 0x0f) == 0x0f ? 65000 : 4000);
    VirtioHeader virtio{};
    if ((kind & 0x40) != 0 && IsWellFormed(packet) && packet.size() >= HeaderMinimum(packet)) {
      const bool tcp = ByteAt(packet, 9) == kTcp;
      virtio.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
      virtio.csum_start = static_cast<uint16_t>(IpHeaderBytes(packet));
      virtio.csum_offset = tcp ? kTcpChecksum : kUdpChecksum;
      if ((kind & 0x20) != 0) {
        virtio.gso_type = tcp ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_UDP_L4;
        virtio.gso_size = (kind & 0x10) != 0 ? input_->Word() : 1400;
      }
      if (packet.size() == WordAt(packet, 2)) {
        const size_t at = IpHeaderBytes(packet) + virtio.csum_offset;
        SetWord(&packet, at, ReferenceSum(PseudoHeader(packet)));
      }
    }
    std::string bytes(reinterpret_cast<const char*>(&virtio), sizeof virtio);
    if ((kind & 0x80) != 0) {
      const uint8_t place = input_->Byte();
      bytes[place % bytes.size()] = static_cast<char>(input_->Byte());
      if ((place & 0x80) != 0) bytes = input_->Bytes(sizeof virtio);
    }
    return bytes + packet;
  }

 private:
  static constexpr size_t kFlows = 8;

  static size_t HeaderMinimum(const std::string& packet) {
    return IpHeaderBytes(packet) + (ByteAt(packet, 9) == kTcp ? kTcpHeaderBytes : kUdpHeaderBytes);
  }

  // A packet that is right in itself, but not what its flow's next packet would be.
  void Disturb(PacketShape* shape) {
    switch (input_->Byte() % 14) {
      case 0: shape->flags = input_->Byte(); break;
      case 1: shape->id = input_->Word(); break;
      case 2: shape->sequence = input_->Long(); break;
      case 3: shape->ttl = input_->Byte(); break;
      case 4: shape->tos = input_->Byte(); break;
      case 5: shape->fragment = input_->Word(); break;
      case 6: shape->ip_options = Options(input_->Byte() % 11); break;
      case 7: shape->tcp_options = Options(input_->Byte() % 11); break;
      case 8: shape->window = input_->Word(); break;
      case 9: shape->urgent = input_->Word(); break;
      case 10: shape->acknowledgment = input_->Long(); break;
      case 11: shape->reserved = input_->Byte() & 0x0f; break;
      case 12: shape->source = input_->Long(); break;
      case 13: shape->destination = input_->Long(); break;
    }
  }

  std::string Options(size_t words) {
    std::string options = input_->Bytes(4 * words);
    options.resize(4 * words, '\1');
    return options;
  }

  // A packet that lies.
  void Damage(std::string* packet) {
    switch (input_->Byte() % 5) {
      case 0: (*packet)[input_->Word() % packet->size()] ^= static_cast<char>(input_->Byte()); break;
      case 1: packet->resize(input_->Word() % (packet->size() + 1)); break;
      case 2: *packet += input_->Bytes(input_->Byte()); break;
      case 3: SetWord(packet, 2, input_->Word()); break;
      case 4:
        (*packet)[input_->Byte() % std::min<size_t>(packet->size(), 60)] = static_cast<char>(input_->Byte());
        break;
    }
  }

  FuzzInput* const input_;
  PacketShape flows_[kFlows];
  size_t payload_ = 100;
};

}  // namespace flannelette

#endif
