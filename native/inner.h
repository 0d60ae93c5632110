// The headers of an inner packet (IPv4 with TCP or UDP), read from bytes that nobody has vouched for: nothing beyond
// `length` is looked at, and nothing is believed that the length contradicts.
#ifndef FLANNELETTE_INNER_H_
#define FLANNELETTE_INNER_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace flannelette {

// Where fields lie, counted from the beginning of their header (RFC 791, 9293, 768).
constexpr size_t kIpTotalLength = 2;
constexpr size_t kIpId = 4;
constexpr size_t kIpFragment = 6;
constexpr size_t kIpTtl = 8;
constexpr size_t kIpProtocol = 9;
constexpr size_t kIpChecksum = 10;
constexpr size_t kIpSource = 12;
constexpr size_t kIpDestination = 16;
constexpr size_t kIpHeaderBytes = 20;  // without options
constexpr size_t kTcpSequence = 4;
constexpr size_t kTcpAcknowledgment = 8;
constexpr size_t kTcpDataOffset = 12;
constexpr size_t kTcpFlags = 13;
constexpr size_t kTcpWindow = 14;
constexpr size_t kTcpChecksum = 16;
constexpr size_t kTcpUrgent = 18;
constexpr size_t kTcpHeaderBytes = 20;  // without options
constexpr size_t kUdpLength = 4;
constexpr size_t kUdpChecksum = 6;
constexpr size_t kUdpHeaderBytes = 8;

// IPv4 and TCP header, both with all options they can have.
constexpr size_t kMaxHeaderBytes = 60 + 60;

constexpr uint8_t kTcp = 6;
constexpr uint8_t kUdp = 17;

constexpr uint8_t kTcpFin = 0x01;
constexpr uint8_t kTcpPsh = 0x08;
constexpr uint8_t kTcpAck = 0x10;
constexpr uint8_t kTcpEce = 0x40;
constexpr uint8_t kTcpCwr = 0x80;

constexpr uint16_t kIpDontFragment = 0x4000;  // in the word at kIpFragment

// In network byte order.
inline uint16_t Load16(const uint8_t* bytes) { return static_cast<uint16_t>(bytes[0] << 8 | bytes[1]); }
inline uint32_t Load32(const uint8_t* bytes) {
  return static_cast<uint32_t>(Load16(bytes)) << 16 | Load16(bytes + 2);
}
inline void Store16(uint8_t* bytes, uint32_t value) {
  bytes[0] = static_cast<uint8_t>(value >> 8);
  bytes[1] = static_cast<uint8_t>(value);
}
inline void Store32(uint8_t* bytes, uint32_t value) {
  Store16(bytes, value >> 16);
  Store16(bytes + 2, value);
}
// As they lie in memory, for checksums (checksum.h) and comparisons.
inline uint16_t LoadRaw16(const uint8_t* bytes) {
  uint16_t value;
  memcpy(&value, bytes, sizeof value);
  return value;
}
inline uint32_t LoadRaw32(const uint8_t* bytes) {
  uint32_t value;
  memcpy(&value, bytes, sizeof value);
  return value;
}
inline void StoreRaw16(uint8_t* bytes, uint16_t value) { memcpy(bytes, &value, sizeof value); }

struct InnerHeaders {
  uint32_t source;       // addresses and ports as they lie in memory
  uint32_t destination;
  uint16_t source_port;  // ports are zero where the transport header is not there
  uint16_t destination_port;
  uint16_t total_bytes;            // what the IPv4 header says; never more than the length given
  uint8_t ip_header_bytes;         // 20 … 60
  uint8_t transport_header_bytes;  // 20 … 60 for TCP, 8 for UDP; 0: another protocol, a fragment, or not all of it there
  uint8_t protocol;
  bool fragment;  // any fragment, the first one too

  size_t header_bytes() const { return size_t{ip_header_bytes} + transport_header_bytes; }
  size_t payload_bytes() const { return total_bytes - header_bytes(); }
};

// False when this is no IPv4 packet, or not all of its header or of its total length is there. Bytes after the total
// length are ignored. No checksum is looked at, nor UDP's length.
bool ParseInner(const uint8_t* packet, size_t length, InnerHeaders* headers);

}  // namespace flannelette

#endif
