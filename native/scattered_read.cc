#include "scattered_read.h"

#include <algorithm>
#include <cstring>

#include <sys/uio.h>

#include "tun.h"

namespace flannelette {

int ScatteredRead::Read(int fd, uint8_t* packet, size_t lead_bytes) {
  if (header_bytes_ == 0) {
    const iovec whole = {packet - lead_bytes, lead_bytes + kMaxPacketBytes};
    return ReadPacket(fd, &whole, 1);
  }
  iovec vectors[kMaxVectors];
  const size_t stride = header_bytes_ + segment_bytes_;
  vectors[0] = {packet - lead_bytes, lead_bytes + stride};
  size_t count = 1;
  for (size_t room = stride; room < kMaxPacketBytes; room += segment_bytes_, count++) {
    vectors[count] = {packet + count * stride + header_bytes_, std::min(segment_bytes_, kMaxPacketBytes - room)};
  }
  return ReadPacket(fd, vectors, count);
}

void ScatteredRead::Gather(uint8_t* packet, size_t length) const {
  const size_t stride = header_bytes_ + segment_bytes_;
  size_t done = stride;
  for (size_t segment = 1; done < length; segment++) {
    const size_t bytes = std::min(segment_bytes_, length - done);
    memmove(packet + done, packet + segment * stride + header_bytes_, bytes);
    done += bytes;
  }
}

void ScatteredRead::Learn(const SegmentPlan& plan) {
  others_ = 0;
  const bool worthwhile = plan.count > 1 && plan.segment_bytes >= kMinSegmentBytes;
  header_bytes_ = worthwhile ? plan.header_bytes : 0;
  segment_bytes_ = plan.segment_bytes;
}

void ScatteredRead::LearnNoSuperPacket() {
  if (++others_ < kMaxOthers) return;
  header_bytes_ = 0;
}

}  // namespace flannelette
