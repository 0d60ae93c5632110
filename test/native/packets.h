// Packets for tests, and a slow and straightforward reference for what native/ does fast: it goes byte by byte in network
// order and shares nothing with native/.
#ifndef FLANNELETTE_TEST_PACKETS_H_
#define FLANNELETTE_TEST_PACKETS_H_

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "expect.h"

inline uint32_t ByteAt(const std::string& bytes, size_t at) { return static_cast<uint8_t>(bytes[at]); }
inline uint32_t WordAt(const std::string& bytes, size_t at) { return ByteAt(bytes, at) << 8 | ByteAt(bytes, at + 1); }
inline void SetWord(std::string* bytes, size_t at, uint32_t value) {
  (*bytes)[at] = static_cast<char>(value >> 8);
  (*bytes)[at + 1] = static_cast<char>(value);
}
inline uint32_t LongAt(const std::string& bytes, size_t at) { return WordAt(bytes, at) << 16 | WordAt(bytes, at + 2); }
inline void SetLong(std::string* bytes, size_t at, uint32_t value) {
  SetWord(bytes, at, value >> 16);
  SetWord(bytes, at + 2, value & 0xffff);
}

// The one's complement sum of the bytes, taken as 16-bit words in network order.
inline uint32_t ReferenceSum(const std::string& bytes) {
  uint64_t sum = 0;
  for (size_t at = 0; at + 1 < bytes.size(); at += 2) sum += WordAt(bytes, at);
  if (bytes.size() % 2 == 1) sum += ByteAt(bytes, bytes.size() - 1) << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint32_t>(sum);
}

inline size_t IpHeaderBytes(const std::string& packet) { return 4 * (ByteAt(packet, 0) & 15); }
inline bool IsTcp(const std::string& packet) { return ByteAt(packet, 9) == 6; }
inline size_t ChecksumAt(const std::string& packet) { return IpHeaderBytes(packet) + (IsTcp(packet) ? 16 : 6); }
inline size_t HeaderBytes(const std::string& packet) {
  const size_t ip = IpHeaderBytes(packet);
  return ip + (IsTcp(packet) ? 4 * (ByteAt(packet, ip + 12) >> 4) : 8);
}

inline std::string PseudoHeader(const std::string& packet) {
  std::string pseudo = packet.substr(12, 8) + std::string(4, '\0');
  pseudo[9] = packet[9];
  SetWord(&pseudo, 10, static_cast<uint32_t>(packet.size() - IpHeaderBytes(packet)));
  return pseudo;
}

// Sets every length and checksum of a TCP or UDP packet to what its bytes demand.
inline void Complete(std::string* packet) {
  const size_t ip = IpHeaderBytes(*packet);
  SetWord(packet, 2, static_cast<uint32_t>(packet->size()));
  SetWord(packet, 10, 0);
  SetWord(packet, 10, ~ReferenceSum(packet->substr(0, ip)) & 0xffff);
  if (!IsTcp(*packet)) SetWord(packet, ip + 4, static_cast<uint32_t>(packet->size() - ip));
  SetWord(packet, ChecksumAt(*packet), 0);
  uint32_t checksum = ~ReferenceSum(PseudoHeader(*packet) + packet->substr(ip)) & 0xffff;
  if (checksum == 0 && !IsTcp(*packet)) checksum = 0xffff;
  SetWord(packet, ChecksumAt(*packet), checksum);
}

// As the kernel leaves it to a device with checksum offload.
inline void CompletePartially(std::string* packet) {
  Complete(packet);
  SetWord(packet, ChecksumAt(*packet), ReferenceSum(PseudoHeader(*packet)));
}

struct PacketShape {
  bool tcp = true;
  uint32_t source = 0x0a050106;
  uint32_t destination = 0x0a052207;
  uint16_t source_port = 40000;
  uint16_t destination_port = 5001;
  uint8_t tos = 0;
  uint8_t ttl = 62;
  uint16_t id = 0x1234;
  uint16_t fragment = 0x4000;
  std::string ip_options;
  uint32_t sequence = 0x01020304;
  uint32_t acknowledgment = 0x0a0b0c0d;
  uint8_t reserved = 0;  // the four bits beside the data offset
  uint8_t flags = 0x10;
  uint16_t window = 502;
  uint16_t urgent = 0;
  std::string tcp_options;
};

inline std::string MakePacket(const PacketShape& shape, const std::string& payload) {
  std::string packet(20, '\0');
  packet[0] = static_cast<char>(0x40 | (5 + shape.ip_options.size() / 4));
  packet[1] = static_cast<char>(shape.tos);
  SetWord(&packet, 4, shape.id);
  SetWord(&packet, 6, shape.fragment);
  packet[8] = static_cast<char>(shape.ttl);
  packet[9] = static_cast<char>(shape.tcp ? 6 : 17);
  SetLong(&packet, 12, shape.source);
  SetLong(&packet, 16, shape.destination);
  packet += shape.ip_options;
  std::string transport(shape.tcp ? 20 : 8, '\0');
  SetWord(&transport, 0, shape.source_port);
  SetWord(&transport, 2, shape.destination_port);
  if (shape.tcp) {
    SetLong(&transport, 4, shape.sequence);
    SetLong(&transport, 8, shape.acknowledgment);
    transport[12] = static_cast<char>((5 + shape.tcp_options.size() / 4) << 4 | shape.reserved);
    transport[13] = static_cast<char>(shape.flags);
    SetWord(&transport, 14, shape.window);
    SetWord(&transport, 18, shape.urgent);
    transport += shape.tcp_options;
  }
  packet += transport + payload;
  Complete(&packet);
  return packet;
}

inline std::string RandomBytes(Random* random, size_t length) {
  std::string bytes(length, '\0');
  // Runs of all zeros and all ones are where checksums go wrong.
  const uint32_t kind = random->Below(8);
  if (kind == 1) return std::string(length, '\xff');
  if (kind != 0) {
    for (char& byte : bytes) byte = static_cast<char>(random->Word());
  }
  return bytes;
}

inline PacketShape RandomShape(Random* random) {
  PacketShape shape;
  shape.tcp = !random->OneIn(3);
  shape.source = random->Word();
  shape.destination = random->Word();
  shape.source_port = static_cast<uint16_t>(random->Word());
  shape.destination_port = static_cast<uint16_t>(random->Word());
  shape.tos = random->OneIn(4) ? static_cast<uint8_t>(random->Word()) : 0;
  shape.ttl = static_cast<uint8_t>(random->Between(1, 255));
  shape.id = static_cast<uint16_t>(random->OneIn(4) ? random->Between(0xfff0, 0xffff) : random->Word());
  shape.fragment = random->OneIn(3) ? 0 : 0x4000;
  shape.sequence = random->OneIn(4) ? 0xffffffff - random->Below(70000) : random->Word();
  shape.acknowledgment = random->Word();
  shape.window = static_cast<uint16_t>(random->Word());
  if (random->OneIn(2)) shape.tcp_options = RandomBytes(random, 4 * random->Below(11));
  return shape;
}

// Segment `index` of what the kernel's segmentation makes of a super-packet.
inline std::string ReferenceSegment(const std::string& packet, size_t segment_bytes, size_t index) {
  const size_t ip = IpHeaderBytes(packet);
  const size_t header = HeaderBytes(packet);
  const size_t at = header + index * segment_bytes;
  std::string segment = packet.substr(0, header) + packet.substr(at, segment_bytes);
  SetWord(&segment, 4, (WordAt(packet, 4) + static_cast<uint32_t>(index)) & 0xffff);
  if (IsTcp(packet)) {
    SetLong(&segment, ip + 4, LongAt(packet, ip + 4) + static_cast<uint32_t>(at - header));
    uint32_t flags = ByteAt(packet, ip + 13);
    if (index > 0) flags &= ~0x80u;                           // CWR
    if (at + segment_bytes < packet.size()) flags &= ~0x09u;  // FIN, PSH
    segment[ip + 13] = static_cast<char>(flags);
  }
  Complete(&segment);
  return segment;
}

// All of them.
inline std::vector<std::string> ReferenceCut(const std::string& packet, size_t segment_bytes) {
  std::vector<std::string> segments;
  do {
    segments.push_back(ReferenceSegment(packet, segment_bytes, segments.size()));
  } while (HeaderBytes(packet) + segments.size() * segment_bytes < packet.size());
  return segments;
}

#endif
