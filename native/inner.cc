#include "inner.h"

namespace flannelette {

namespace {

constexpr uint16_t kIpMoreFragmentsOrOffset = 0x3fff;  // in the word at kIpFragment

// 0 when not all of the header is there.
size_t TransportHeaderBytes(uint8_t protocol, const uint8_t* transport, size_t available) {
  if (protocol == kUdp) return available >= kUdpHeaderBytes ? kUdpHeaderBytes : 0;
  if (protocol != kTcp || available < kTcpHeaderBytes) return 0;
  const size_t bytes = size_t{4} * (transport[kTcpDataOffset] >> 4);
  return bytes >= kTcpHeaderBytes && bytes <= available ? bytes : 0;
}

}  // namespace

bool ParseInner(const uint8_t* packet, size_t length, InnerHeaders* headers) {
  if (length < kIpHeaderBytes || packet[0] >> 4 != 4) return false;
  const size_t ip_header_bytes = size_t{4} * (packet[0] & 0x0f);
  const size_t total_bytes = Load16(packet + kIpTotalLength);
  if (ip_header_bytes < kIpHeaderBytes || total_bytes < ip_header_bytes || total_bytes > length) return false;
  headers->source = LoadRaw32(packet + kIpSource);
  headers->destination = LoadRaw32(packet + kIpDestination);
  headers->total_bytes = static_cast<uint16_t>(total_bytes);
  headers->ip_header_bytes = static_cast<uint8_t>(ip_header_bytes);
  headers->protocol = packet[kIpProtocol];
  headers->fragment = (Load16(packet + kIpFragment) & kIpMoreFragmentsOrOffset) != 0;
  const uint8_t* const transport = packet + ip_header_bytes;
  const size_t transport_header_bytes =
      headers->fragment ? 0 : TransportHeaderBytes(headers->protocol, transport, total_bytes - ip_header_bytes);
  headers->transport_header_bytes = static_cast<uint8_t>(transport_header_bytes);
  headers->source_port = transport_header_bytes == 0 ? 0 : LoadRaw16(transport);
  headers->destination_port = transport_header_bytes == 0 ? 0 : LoadRaw16(transport + 2);
  return true;
}

}  // namespace flannelette
