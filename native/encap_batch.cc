#include "encap_batch.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "layout.h"
#include "tun.h"

namespace flannelette {

namespace {

// How long one Transmit may wait for room in the kernel's queues. Long enough for a queue of a slow link to move, short
// enough for a worker that is asked to stop.
constexpr int kPatienceMilliseconds = 50;

constexpr size_t kAlignment = 64;

constexpr size_t AlignUp(size_t offset) { return (offset + kAlignment - 1) & ~(kAlignment - 1); }

static_assert(kHeadroomBytes >= kVirtioHeaderBytes);

}  // namespace

EncapBatch::EncapBatch(uint8_t* arena, size_t arena_bytes, int32_t* descriptors, size_t capacity, int tun, int socket,
                       int wakeup, uint32_t offloads)
    : arena_(arena),
      receive_bytes_(arena_bytes - kMaxPacketBytes),
      descriptors_(descriptors),
      capacity_(capacity),
      tun_(tun),
      waiter_(tun, wakeup),
      offloads_(offloads),
      sender_(socket, &offloads_),
      groups_(capacity),
      super_packets_(new SuperPacket[capacity]()) {}

int32_t* EncapBatch::Descriptor(size_t index) { return descriptors_ + index * kDescriptorWords; }

uint8_t* EncapBatch::Packet(size_t index) { return arena_ + Descriptor(index)[kOffset]; }

int EncapBatch::Receive() {
  for (;;) {
    const int received = DrainDevice();
    if (received != -EAGAIN) return received;
    const int waited = waiter_.Wait();
    if (waited != kReady) return waited;
  }
}

int EncapBatch::DrainDevice() {
  const size_t header_bytes = offloads_.Has(kTunVnet) ? kVirtioHeaderBytes : 0;
  size_t count = 0;
  size_t lost = 0;
  size_t offset = kHeadroomBytes;
  while (count < capacity_ && offset + ScatteredRead::kMaxBytes <= receive_bytes_) {
    const int length = reader_.Read(tun_, arena_ + offset, header_bytes);
    int32_t* const descriptor = Descriptor(count);
    if (length == -EINVAL && ++lost < capacity_) {
      descriptor[kOffset] = static_cast<int32_t>(offset);
      descriptor[kLength] = 0;
      descriptor[kSegments] = Examine(count, {});
      count++;
      continue;
    }
    // An error that comes after packets comes again with the next call. A device that loses all of them has one, too.
    if (length < 0) return count > 0 && lost < capacity_ ? static_cast<int>(count) : length;
    if (length < static_cast<int>(header_bytes)) continue;
    descriptor[kOffset] = static_cast<int32_t>(offset);
    descriptor[kLength] = length - static_cast<int32_t>(header_bytes);
    VirtioHeader virtio{};
    memcpy(&virtio, arena_ + offset - header_bytes, header_bytes);
    descriptor[kSegments] = Examine(count, virtio);
    const SuperPacket& super = super_packets_[count];
    const size_t gaps = super.gaps ? super.plan.count * super.plan.header_bytes : 0;
    offset = AlignUp(offset + static_cast<size_t>(length) + gaps) + kHeadroomBytes;
    count++;
  }
  return static_cast<int>(count);
}

int32_t EncapBatch::Examine(size_t index, const VirtioHeader& virtio) {
  uint8_t* const packet = Packet(index);
  const size_t length = static_cast<size_t>(Descriptor(index)[kLength]);
  SuperPacket& super = super_packets_[index];
  const int segments = IsSuperPacket(virtio) ? PlanSegments(virtio, packet, length, &super.plan) : 0;
  if (segments <= 0) super.plan.count = 0;
  super.kept = false;
  super.gaps = reader_.HasGaps(length);
  if (super.gaps && (segments <= 0 || !reader_.Suits(super.plan))) {
    reader_.Gather(packet, length);
    super.gaps = false;
  }
  if (segments > 0) {
    reader_.Learn(super.plan);
    return segments;
  }
  reader_.LearnNoSuperPacket();
  if (IsSuperPacket(virtio)) return 0;
  return NeedsChecksum(virtio) && CompleteChecksum(virtio, packet, length) < 0 ? 0 : 1;
}

void EncapBatch::Transmit(size_t count) {
  groups_.Clear();
  for (size_t index = 0; index < count; index++) {
    int32_t* const descriptor = Descriptor(index);
    if (descriptor[kVerdict] != kForward) continue;
    descriptor[kError] = 0;
    descriptor[kSentPackets] = 0;
    descriptor[kSentBytes] = 0;
    descriptor[kTooBigPackets] = 0;
    groups_.Add(static_cast<int32_t>(index), static_cast<uint32_t>(descriptor[kAddress]),
                static_cast<uint16_t>(descriptor[kPort]));
  }
  sender_.Begin(kPatienceMilliseconds);
  for (size_t hop = 0; hop < groups_.size(); hop++) {
    const NextHopGroups::Group& group = groups_[hop];
    sender_.NextHop(group.address, group.port);
    for (int32_t index = group.first; index != NextHopGroups::kEnd; index = groups_.next(index)) {
      const size_t at = static_cast<size_t>(index);
      int32_t* const descriptor = Descriptor(at);
      SuperPacket& super = super_packets_[at];
      if (super.plan.count > 0) {
        memcpy(super.headers, Packet(at), super.plan.header_bytes);
        super.kept = true;
        sender_.AddSuperPacket(super.plan, super.headers, Packet(at) + super.plan.header_bytes, super.gaps, descriptor);
      } else {
        sender_.AddPacket(Packet(at), static_cast<size_t>(descriptor[kLength]), descriptor);
      }
    }
  }
  sender_.Flush();
}

int EncapBatch::Cut(size_t index, int32_t segment, size_t kept_bytes) {
  const int32_t* const descriptor = Descriptor(index);
  const uint8_t* const packet = Packet(index);
  const SuperPacket& super = super_packets_[index];
  const SegmentPlan& plan = super.plan;
  uint8_t* const out = arena_ + receive_bytes_;
  if (plan.count == 0) {
    memcpy(out, packet, std::min(kept_bytes, static_cast<size_t>(descriptor[kLength])));
    return descriptor[kLength];
  }
  const uint8_t* const headers = super.kept ? super.headers : packet;
  const uint8_t* const payload = packet + plan.header_bytes;
  uint32_t first = 0;
  uint32_t count = plan.count;
  if (segment == kWhole) {
    memcpy(out, headers, plan.header_bytes);
  } else {
    first = static_cast<uint32_t>(segment);
    count = 1;
    WriteSegmentHeaders(plan, headers, payload, super.stride(), first, count, out, 0);
  }
  size_t bytes = plan.header_bytes;
  for (uint32_t part = first; part < first + count; part++) {
    const size_t part_bytes = plan.SegmentPayloadBytes(part);
    if (bytes < kept_bytes) {
      memcpy(out + bytes, payload + part * super.stride(), std::min(part_bytes, kept_bytes - bytes));
    }
    bytes += part_bytes;
  }
  return static_cast<int>(bytes);
}

}  // namespace flannelette
