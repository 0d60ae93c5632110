#include "segment.h"

#include <algorithm>
#include <cerrno>

#include "checksum.h"

namespace flannelette {

namespace {

size_t ChecksumOffset(uint8_t protocol) { return protocol == kTcp ? kTcpChecksum : kUdpChecksum; }

// The headers of a super-packet without what differs from segment to segment, and the sums of what does not.
class HeaderTemplate {
 public:
  HeaderTemplate(const SegmentPlan& plan, const uint8_t* packet)
      : plan_(plan), transport_header_bytes_(plan.header_bytes - plan.ip_header_bytes) {
    memcpy(bytes_, packet, plan.header_bytes);
    id_ = Load16(bytes_ + kIpId);
    Store16(bytes_ + kIpTotalLength, 0);
    Store16(bytes_ + kIpId, 0);
    Store16(bytes_ + kIpChecksum, 0);
    ip_sum_ = SumBytes(bytes_, plan.ip_header_bytes, 0);
    uint8_t* const transport = bytes_ + plan.ip_header_bytes;
    if (plan.protocol == kTcp) {
      sequence_ = Load32(transport + kTcpSequence);
      flags_ = transport[kTcpFlags];
      Store32(transport + kTcpSequence, 0);
      transport[kTcpFlags] = 0;
    } else {
      Store16(transport + kUdpLength, 0);
    }
    Store16(transport + ChecksumOffset(plan.protocol), 0);
    transport_sum_ = SumBytes(transport, transport_header_bytes_, SumPseudoHeader(bytes_, plan.protocol, 0));
  }

  void Write(uint32_t index, const uint8_t* payload, uint8_t* out) const {
    const size_t payload_bytes = plan_.SegmentPayloadBytes(index);
    memcpy(out, bytes_, plan_.header_bytes);
    Store16(out + kIpTotalLength, static_cast<uint32_t>(plan_.header_bytes + payload_bytes));
    Store16(out + kIpId, id_ + index);
    StoreRaw16(out + kIpChecksum, FinishSum(ip_sum_ + LoadRaw16(out + kIpTotalLength) + LoadRaw16(out + kIpId)));
    uint8_t* const transport = out + plan_.ip_header_bytes;
    const uint64_t sum = SumBytes(payload, payload_bytes, transport_sum_);
    uint8_t length[2];
    Store16(length, static_cast<uint32_t>(transport_header_bytes_ + payload_bytes));
    if (plan_.protocol == kTcp) {
      Store32(transport + kTcpSequence, sequence_ + index * plan_.segment_bytes);
      transport[kTcpFlags] = Flags(index);
      const uint64_t varying = uint64_t{LoadRaw32(transport + kTcpSequence)} + LoadRaw16(transport + kTcpDataOffset) -
                               LoadRaw16(bytes_ + plan_.ip_header_bytes + kTcpDataOffset);
      StoreRaw16(transport + kTcpChecksum, FinishSum(sum + varying + LoadRaw16(length)));
    } else {
      memcpy(transport + kUdpLength, length, sizeof length);
      // Once in the pseudo header, once in the header.
      StoreRaw16(transport + kUdpChecksum, FinishUdpSum(sum + 2 * uint64_t{LoadRaw16(length)}));
    }
  }

 private:
  uint8_t Flags(uint32_t index) const {
    uint8_t flags = flags_;
    if (index > 0) flags &= static_cast<uint8_t>(~kTcpCwr);
    if (index + 1 < plan_.count) flags &= static_cast<uint8_t>(~(kTcpFin | kTcpPsh));
    return flags;
  }

  const SegmentPlan& plan_;
  const size_t transport_header_bytes_;
  uint32_t sequence_ = 0;
  uint16_t id_ = 0;
  uint8_t flags_ = 0;
  uint64_t ip_sum_ = 0;
  uint64_t transport_sum_ = 0;
  uint8_t bytes_[kMaxHeaderBytes];
};

}  // namespace

int PlanSegments(const VirtioHeader& virtio, const uint8_t* packet, size_t length, SegmentPlan* plan) {
  const uint8_t kind = GsoKind(virtio);
  if (kind != VIRTIO_NET_HDR_GSO_TCPV4 && kind != VIRTIO_NET_HDR_GSO_UDP_L4) return -EPROTONOSUPPORT;
  const uint8_t protocol = kind == VIRTIO_NET_HDR_GSO_TCPV4 ? kTcp : kUdp;
  InnerHeaders headers;
  if (!ParseInner(packet, length, &headers)) return -EINVAL;
  if (headers.protocol != protocol || headers.transport_header_bytes == 0 || virtio.gso_size == 0) return -EINVAL;
  if (NeedsChecksum(virtio) &&
      (virtio.csum_start != headers.ip_header_bytes || virtio.csum_offset != ChecksumOffset(protocol))) {
    return -EINVAL;
  }
  if (protocol == kUdp) {
    const size_t udp_bytes = Load16(packet + headers.ip_header_bytes + kUdpLength);
    if (udp_bytes != size_t{headers.total_bytes} - headers.ip_header_bytes) return -EINVAL;
    if (virtio.gso_type != kind) return -EINVAL;  // ECN is a matter of TCP
  }
  plan->header_bytes = static_cast<uint32_t>(headers.header_bytes());
  plan->payload_bytes = static_cast<uint32_t>(headers.payload_bytes());
  plan->segment_bytes = std::min(uint32_t{virtio.gso_size}, plan->payload_bytes);
  plan->count = plan->payload_bytes == 0 ? 1 : (plan->payload_bytes - 1) / plan->segment_bytes + 1;
  plan->ip_header_bytes = headers.ip_header_bytes;
  plan->protocol = protocol;
  return static_cast<int>(plan->count);
}

void WriteSegmentHeaders(const SegmentPlan& plan, const uint8_t* packet, const uint8_t* payload, size_t payload_stride,
                         uint32_t first, uint32_t count, uint8_t* out, size_t out_stride) {
  const HeaderTemplate header(plan, packet);
  for (uint32_t index = first; index < first + count; index++) {
    header.Write(index, payload + index * payload_stride, out + (index - first) * out_stride);
  }
}

int CompleteChecksum(const VirtioHeader& virtio, uint8_t* packet, size_t length) {
  const size_t start = virtio.csum_start;
  const size_t field = start + virtio.csum_offset;
  if (start < kIpHeaderBytes || field + sizeof(uint16_t) > length) return -EINVAL;
  StoreRaw16(packet + field, FinishUdpSum(SumBytes(packet + start, length - start, 0)));
  return 0;
}

}  // namespace flannelette
