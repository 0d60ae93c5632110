#include "coalesce.h"

#include "checksum.h"

namespace flannelette {

namespace {

constexpr size_t kFlows = 512;  // a power of two
constexpr size_t kWays = 4;     // places of the table that a flow may take
constexpr uint32_t kNone = UINT32_MAX;
constexpr uint32_t kMaxIpBytes = 65535;

constexpr uint16_t kImpossibleChecksum = 0xffff;  // no sum of a header that is not all zeros has this for a complement

uint32_t Ports(const InnerHeaders& headers) {
  return uint32_t{headers.source_port} | uint32_t{headers.destination_port} << 16;
}

uint64_t Addresses(const InnerHeaders& headers) {
  return uint64_t{headers.source} | uint64_t{headers.destination} << 32;
}

size_t Hash(uint64_t addresses, uint32_t ports) {
  const uint64_t mixed = (addresses ^ uint64_t{ports} * 0x9e3779b97f4a7c15) * 0xff51afd7ed558ccd;
  return static_cast<size_t>(mixed >> 32);
}

// Whether segmentation can give this packet back, whatever it is merged with. Its checksums are not looked at, but for
// values that segmentation does not write.
bool IsMergeable(const uint8_t* packet, size_t length, const InnerHeaders& headers) {
  if (headers.total_bytes != length || headers.ip_header_bytes != kIpHeaderBytes || headers.payload_bytes() == 0) {
    return false;
  }
  if ((Load16(packet + kIpFragment) & ~kIpDontFragment) != 0) return false;
  if (LoadRaw16(packet + kIpChecksum) == kImpossibleChecksum) return false;
  const uint8_t* const transport = packet + kIpHeaderBytes;
  if (headers.protocol == kTcp) {
    constexpr uint8_t kAllowed = kTcpAck | kTcpPsh | kTcpFin | kTcpEce | kTcpCwr;
    const uint8_t flags = transport[kTcpFlags];
    return (flags & ~kAllowed) == 0 && (flags & kTcpAck) != 0 &&
           LoadRaw16(transport + kTcpChecksum) != kImpossibleChecksum;
  }
  return Load16(transport + kUdpLength) == length - kIpHeaderBytes && LoadRaw16(transport + kUdpChecksum) != 0;
}

bool DontFragment(const uint8_t* packet) { return (Load16(packet + kIpFragment) & kIpDontFragment) != 0; }

// The last of its run: segmentation puts these flags on the last segment only.
bool EndsRun(const uint8_t* packet, const InnerHeaders& headers) {
  return headers.protocol == kTcp && (packet[kIpHeaderBytes + kTcpFlags] & (kTcpPsh | kTcpFin)) != 0;
}

// For packets without IP options.
bool ChecksumsHold(const uint8_t* packet, size_t length, uint8_t protocol) {
  if (FinishSum(SumBytes(packet, kIpHeaderBytes, 0)) != 0) return false;
  const size_t transport_bytes = length - kIpHeaderBytes;
  const uint64_t pseudo = SumPseudoHeader(packet, protocol, transport_bytes);
  return FinishSum(SumBytes(packet + kIpHeaderBytes, transport_bytes, pseudo)) == 0;
}

// Type of service, DF, TTL and protocol.
bool SameIpHeader(const uint8_t* one, const uint8_t* other) {
  return LoadRaw16(one) == LoadRaw16(other) && LoadRaw16(one + kIpFragment) == LoadRaw16(other + kIpFragment) &&
         LoadRaw16(one + kIpTtl) == LoadRaw16(other + kIpTtl);
}

// Acknowledgment, data offset, reserved bits, flags but those of first and last segments, window, urgent pointer, options.
bool SameTcpHeader(const uint8_t* first, const uint8_t* next, size_t header_bytes) {
  constexpr uint8_t kVarying = kTcpFin | kTcpPsh | kTcpCwr;
  return LoadRaw32(first + kTcpAcknowledgment) == LoadRaw32(next + kTcpAcknowledgment) &&
         first[kTcpDataOffset] == next[kTcpDataOffset] && ((first[kTcpFlags] ^ next[kTcpFlags]) & ~kVarying) == 0 &&
         (next[kTcpFlags] & kTcpCwr) == 0 && LoadRaw16(first + kTcpWindow) == LoadRaw16(next + kTcpWindow) &&
         LoadRaw16(first + kTcpUrgent) == LoadRaw16(next + kTcpUrgent) &&
         memcmp(first + kTcpHeaderBytes, next + kTcpHeaderBytes, header_bytes - kTcpHeaderBytes) == 0;
}

}  // namespace

struct Coalescer::Packet {
  uint8_t* bytes;
  uint32_t length;
  uint32_t index;  // the caller's
  uint32_t next;   // of the same write
};

struct Coalescer::Write {
  uint32_t first;  // packets
  uint32_t last;
  uint32_t count;
  uint32_t vector;  // the first of its vectors, and of its indices: set by Finish
  uint32_t first_index;
  bool open;  // takes more packets; all that follows means something only if it ever was
  bool verified;      // the first packet's checksums were found right
  bool constant_ids;  // known from the second packet on
  uint8_t protocol;
  uint8_t header_bytes;
  uint16_t segment_bytes;  // of payload, of all but the last packet
  uint16_t next_id;
  uint32_t next_sequence;  // TCP
  uint32_t total_bytes;    // of the merged IPv4 packet
  // What Finish changes in the first packet besides its length.
  uint16_t ip_checksum;
  uint16_t transport_checksum;
  uint8_t flags;
};

struct Coalescer::Flow {
  uint64_t addresses;
  uint32_t ports;
  uint32_t batch;  // the place is free when it is not the present one
  uint32_t write;
  uint8_t protocol;
};

Coalescer::Coalescer(size_t capacity)
    : packets_(new Packet[capacity]()),
      writes_(new Write[capacity]()),
      flows_(new Flow[kFlows]()),
      headers_(new VirtioHeader[capacity]()),
      vectors_(new iovec[2 * capacity]()),
      indices_(new uint32_t[capacity]()) {}

Coalescer::~Coalescer() = default;

void Coalescer::Begin(const CoalesceOptions& options) {
  options_ = options;
  packet_count_ = 0;
  write_count_ = 0;
  if (++batch_ != 0) return;
  for (size_t place = 0; place < kFlows; place++) flows_[place].batch = 0;
  batch_ = 1;
}

void Coalescer::Add(uint8_t* packet, size_t length, uint32_t index) {
  const uint32_t number = static_cast<uint32_t>(packet_count_++);
  packets_[number] = {packet, static_cast<uint32_t>(length), index, kNone};
  InnerHeaders headers;
  const bool merges = ParseInner(packet, length, &headers) &&
                      ((headers.protocol == kTcp && options_.tcp) || (headers.protocol == kUdp && options_.udp));
  if (!merges || headers.transport_header_bytes == 0) {
    if (merges) EndMergesBetween(headers);
    BeginWrite(number);
    return;
  }
  const bool mergeable = IsMergeable(packet, length, headers);
  bool known = false;
  Flow* const flow = Find(headers, &known);
  if (known && mergeable && Join(&writes_[flow->write], number, headers)) return;
  const bool open = mergeable && !EndsRun(packet, headers);
  // A flow that the table does not know has nothing that this packet could be overtaken by.
  if (known || open) {
    *flow = {Addresses(headers), Ports(headers), batch_, static_cast<uint32_t>(write_count_), headers.protocol};
  }
  Write* const write = BeginWrite(number);
  if (open) Open(write, headers);
}

Coalescer::Flow* Coalescer::Find(const InnerHeaders& headers, bool* known) {
  const uint64_t addresses = Addresses(headers);
  const uint32_t ports = Ports(headers);
  const size_t hash = Hash(addresses, ports);
  for (size_t way = 0; way < kWays; way++) {
    Flow* const flow = &flows_[(hash + way) & (kFlows - 1)];
    if (flow->batch != batch_) return flow;  // within a batch no place becomes free again
    if (flow->addresses != addresses || flow->ports != ports || flow->protocol != headers.protocol) continue;
    *known = true;
    return flow;
  }
  return &flows_[hash & (kFlows - 1)];
}

void Coalescer::EndMergesBetween(const InnerHeaders& headers) {
  const uint64_t addresses = Addresses(headers);
  for (size_t place = 0; place < kFlows; place++) {
    const Flow& flow = flows_[place];
    if (flow.batch != batch_ || flow.addresses != addresses || flow.protocol != headers.protocol) continue;
    writes_[flow.write].open = false;
  }
}

Coalescer::Write* Coalescer::BeginWrite(uint32_t number) {
  Write* const write = &writes_[write_count_++];
  write->first = number;
  write->last = number;
  write->count = 1;
  write->open = false;
  return write;
}

void Coalescer::Open(Write* write, const InnerHeaders& headers) {
  const uint8_t* const packet = packets_[write->first].bytes;
  write->open = true;
  write->verified = false;
  write->constant_ids = false;
  write->protocol = headers.protocol;
  write->header_bytes = static_cast<uint8_t>(headers.header_bytes());
  write->segment_bytes = static_cast<uint16_t>(headers.payload_bytes());
  write->next_id = static_cast<uint16_t>(Load16(packet + kIpId) + 1);
  write->total_bytes = headers.total_bytes;
  if (headers.protocol == kTcp) {
    write->next_sequence =
        Load32(packet + kIpHeaderBytes + kTcpSequence) + static_cast<uint32_t>(headers.payload_bytes());
  }
}

bool Coalescer::Join(Write* write, uint32_t number, const InnerHeaders& headers) {
  if (!write->open) return false;
  const uint32_t payload_bytes = static_cast<uint32_t>(headers.payload_bytes());
  if (payload_bytes > write->segment_bytes || write->total_bytes + payload_bytes > kMaxIpBytes) return false;
  if (write->count == (write->protocol == kTcp ? kMaxVectors - 2 : kMaxUdpSegments)) return false;
  const uint8_t* const first = packets_[write->first].bytes;
  const uint8_t* const packet = packets_[number].bytes;
  if (!SameIpHeader(first, packet)) return false;
  const uint16_t id = Load16(packet + kIpId);
  bool constant_ids = write->constant_ids;
  if (write->count == 1) {
    constant_ids = options_.udp_constant_ids && write->protocol == kUdp && DontFragment(packet) && id == Load16(first + kIpId);
  }
  if (id != (constant_ids ? Load16(first + kIpId) : write->next_id)) return false;
  if (write->protocol == kTcp) {
    const uint8_t* const tcp = packet + kIpHeaderBytes;
    if (Load32(tcp + kTcpSequence) != write->next_sequence) return false;
    if (!SameTcpHeader(first + kIpHeaderBytes, tcp, headers.transport_header_bytes)) return false;
  }
  if (!HasVerified(write) || !ChecksumsHold(packet, headers.total_bytes, headers.protocol)) return false;
  packets_[write->last].next = number;
  write->last = number;
  write->count++;
  write->constant_ids = constant_ids;
  write->next_id++;
  write->next_sequence += payload_bytes;
  write->total_bytes += payload_bytes;
  write->open = payload_bytes == write->segment_bytes && !EndsRun(packet, headers);
  return true;
}

bool Coalescer::HasVerified(Write* write) {
  if (!write->verified) {
    const Packet& first = packets_[write->first];
    write->verified = ChecksumsHold(first.bytes, first.length, write->protocol);
  }
  return write->verified;
}

size_t Coalescer::Finish() {
  uint32_t vector = 0;
  uint32_t index = 0;
  for (size_t position = 0; position < write_count_; position++) {
    Write* const write = &writes_[position];
    write->vector = vector;
    write->first_index = index;
    headers_[position] = {};
    vectors_[vector++] = {&headers_[position], kVirtioHeaderBytes};
    size_t skipped = 0;
    for (uint32_t number = write->first; number != kNone; number = packets_[number].next) {
      const Packet& packet = packets_[number];
      vectors_[vector++] = {packet.bytes + skipped, packet.length - skipped};
      indices_[index++] = packet.index;
      skipped = write->header_bytes;
    }
    if (write->count > 1) Rewrite(write, &headers_[position]);
  }
  return write_count_;
}

void Coalescer::Rewrite(Write* write, VirtioHeader* virtio) {
  uint8_t* const packet = packets_[write->first].bytes;
  uint8_t* const transport = packet + kIpHeaderBytes;
  const bool tcp = write->protocol == kTcp;
  const size_t checksum = tcp ? kTcpChecksum : kUdpChecksum;
  const uint32_t transport_bytes = write->total_bytes - static_cast<uint32_t>(kIpHeaderBytes);
  write->ip_checksum = LoadRaw16(packet + kIpChecksum);
  write->transport_checksum = LoadRaw16(transport + checksum);
  Store16(packet + kIpTotalLength, write->total_bytes);
  Store16(packet + kIpChecksum, 0);
  StoreRaw16(packet + kIpChecksum, FinishSum(SumBytes(packet, kIpHeaderBytes, 0)));
  if (tcp) {
    write->flags = transport[kTcpFlags];
    transport[kTcpFlags] |= packets_[write->last].bytes[kIpHeaderBytes + kTcpFlags] & (kTcpPsh | kTcpFin);
    virtio->gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
    if ((write->flags & kTcpCwr) != 0) virtio->gso_type |= VIRTIO_NET_HDR_GSO_ECN;
  } else {
    Store16(transport + kUdpLength, transport_bytes);
    virtio->gso_type = VIRTIO_NET_HDR_GSO_UDP_L4;
  }
  StoreRaw16(transport + checksum, FoldSum(SumPseudoHeader(packet, write->protocol, transport_bytes)));
  virtio->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
  virtio->hdr_len = write->header_bytes;
  virtio->gso_size = write->segment_bytes;
  virtio->csum_start = kIpHeaderBytes;
  virtio->csum_offset = static_cast<uint16_t>(checksum);
}

CoalescedWrite Coalescer::write(size_t position) const {
  const Write& write = writes_[position];
  const uint32_t packet_bytes = write.count > 1 ? write.total_bytes : packets_[write.first].length;
  return {&vectors_[write.vector], 1 + write.count, static_cast<uint32_t>(kVirtioHeaderBytes) + packet_bytes,
          &indices_[write.first_index], write.count};
}

void Coalescer::Undo(size_t position) const {
  const Write& write = writes_[position];
  if (write.count == 1) return;
  const Packet& first = packets_[write.first];
  uint8_t* const transport = first.bytes + kIpHeaderBytes;
  Store16(first.bytes + kIpTotalLength, first.length);
  StoreRaw16(first.bytes + kIpChecksum, write.ip_checksum);
  if (write.protocol == kTcp) {
    transport[kTcpFlags] = write.flags;
    StoreRaw16(transport + kTcpChecksum, write.transport_checksum);
  } else {
    Store16(transport + kUdpLength, first.length - static_cast<uint32_t>(kIpHeaderBytes));
    StoreRaw16(transport + kUdpChecksum, write.transport_checksum);
  }
}

}  // namespace flannelette
