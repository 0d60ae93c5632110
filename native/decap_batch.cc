#include "decap_batch.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <arpa/inet.h>

#include "layout.h"
#include "tun.h"
#include "udp.h"

namespace flannelette {

namespace {

// How long one Transmit may wait for room in the kernel's queues.
constexpr int kPatienceMilliseconds = 50;

// After so many merged packets in a row that the kernel refused, it is asked no more.
constexpr int kMaxRefused = 8;

// Room for UDP_GRO's integer, at an alignment that suits a cmsghdr.
constexpr size_t kControlBytes = 64;
static_assert(kControlBytes >= CMSG_SPACE(sizeof(int)));

// The size of a train's datagrams, 0 when this is one datagram.
size_t DatagramBytes(msghdr* header) {
  for (cmsghdr* control = CMSG_FIRSTHDR(header); control != nullptr; control = CMSG_NXTHDR(header, control)) {
    if (control->cmsg_level != IPPROTO_UDP || control->cmsg_type != UDP_GRO) continue;
    int bytes = 0;
    memcpy(&bytes, CMSG_DATA(control), sizeof bytes);
    return bytes > 0 ? static_cast<size_t>(bytes) : 0;
  }
  return 0;
}

}  // namespace

DecapBatch::DecapBatch(uint8_t* arena, size_t arena_bytes, int32_t* descriptors, size_t capacity, int tun, int socket,
                       int wakeup, uint32_t offloads)
    : arena_(arena),
      descriptors_(descriptors),
      capacity_(capacity),
      places_(arena_bytes / kDatagramPlaceBytes),
      tun_(tun),
      socket_(socket),
      waiter_(socket, wakeup),
      offloads_(offloads),
      messages_(new mmsghdr[places_]()),
      vectors_(new iovec[places_]()),
      addresses_(new sockaddr_in[places_]()),
      controls_(new uint8_t[places_ * kControlBytes]),
      coalescer_(capacity) {
  for (size_t index = 0; index < places_; index++) {
    vectors_[index] = {arena_ + index * kDatagramPlaceBytes + kHeadroomBytes, kMaxPacketBytes};
    msghdr& header = messages_[index].msg_hdr;
    header.msg_name = &addresses_[index];
    header.msg_iov = &vectors_[index];
    header.msg_iovlen = 1;
    header.msg_control = controls_.get() + index * kControlBytes;
  }
}

int32_t* DecapBatch::Descriptor(size_t index) { return descriptors_ + index * kDescriptorWords; }

int DecapBatch::Receive() {
  while (message_ == received_) {
    const int received = DrainSocket();
    if (received == -EAGAIN) {
      const int waited = waiter_.Wait();
      if (waited != kReady) return waited;
    } else if (received < 0) {
      return received;
    }
  }
  return TakeApart();
}

int DecapBatch::DrainSocket() {
  for (size_t index = 0; index < places_; index++) {
    messages_[index].msg_hdr.msg_namelen = sizeof(sockaddr_in);
    messages_[index].msg_hdr.msg_controllen = kControlBytes;
  }
  const int received = ReceiveMessages(socket_, messages_.get(), places_, &offloads_);
  message_ = 0;
  taken_bytes_ = 0;
  received_ = received > 0 ? static_cast<size_t>(received) : 0;
  return received;
}

int DecapBatch::TakeApart() {
  size_t count = 0;
  while (message_ < received_ && count < capacity_) {
    const size_t length = messages_[message_].msg_len;
    const size_t datagram_bytes = DatagramBytes(&messages_[message_].msg_hdr);
    const sockaddr_in& sender = addresses_[message_];
    const size_t left = length - taken_bytes_;
    const size_t bytes = datagram_bytes == 0 ? left : std::min(left, datagram_bytes);
    int32_t* const descriptor = Descriptor(count++);
    descriptor[kOffset] = static_cast<int32_t>(message_ * kDatagramPlaceBytes + kHeadroomBytes + taken_bytes_);
    descriptor[kLength] = static_cast<int32_t>(bytes);
    descriptor[kAddress] = static_cast<int32_t>(ntohl(sender.sin_addr.s_addr));
    descriptor[kPort] = ntohs(sender.sin_port);
    descriptor[kSegments] = 1;
    descriptor[kMerged] = 1;
    taken_bytes_ += bytes;
    if (taken_bytes_ < length) continue;
    message_++;
    taken_bytes_ = 0;
  }
  return static_cast<int>(count);
}

void DecapBatch::Transmit(size_t count) {
  patience_ = kPatienceMilliseconds;
  // Datagrams of unconnected sockets have DF and id 0, which means nothing to anybody (RFC 6864, section 4.1): were they
  // not merged, a flood of them would cost a write each.
  constexpr bool kUdpConstantIds = true;
  coalescer_.Begin({offloads_.Has(kTunTso), offloads_.Has(kTunUso), kUdpConstantIds});
  for (size_t index = 0; index < count; index++) {
    const int32_t* const descriptor = Descriptor(index);
    if (descriptor[kVerdict] != kForward) continue;
    coalescer_.Add(arena_ + descriptor[kOffset], static_cast<size_t>(descriptor[kLength]), static_cast<uint32_t>(index));
  }
  const size_t writes = coalescer_.Finish();
  for (size_t position = 0; position < writes; position++) {
    const CoalescedWrite write = coalescer_.write(position);
    const int error = Write(write);
    if (error == EINVAL && write.count > 1) {
      const uint8_t gso_kind = GsoKind(*static_cast<const VirtioHeader*>(write.vectors[0].iov_base));
      coalescer_.Undo(position);
      bool passed = false;
      for (uint32_t member = 0; member < write.count; member++) {
        int32_t* const descriptor = Descriptor(write.indices[member]);
        descriptor[kError] = WriteAlone(descriptor);
        passed |= descriptor[kError] == 0;
      }
      if (passed) Refused(gso_kind, error);
      continue;
    }
    if (error == 0 && write.count > 1) refused_in_a_row_ = 0;
    for (uint32_t member = 0; member < write.count; member++) {
      int32_t* const descriptor = Descriptor(write.indices[member]);
      descriptor[kError] = error;
      descriptor[kMerged] = static_cast<int32_t>(write.count);
    }
  }
}

int DecapBatch::Write(const CoalescedWrite& write) {
  const size_t skipped = offloads_.Has(kTunVnet) ? 0 : 1;
  return WritePacket(tun_, write.vectors + skipped, write.vector_count - skipped, &patience_);
}

int DecapBatch::WriteAlone(const int32_t* descriptor) {
  VirtioHeader finished{};
  const iovec vectors[] = {{&finished, kVirtioHeaderBytes},
                           {arena_ + descriptor[kOffset], static_cast<size_t>(descriptor[kLength])}};
  return WritePacket(tun_, vectors, 2, &patience_);
}

void DecapBatch::Refused(uint8_t gso_kind, int error) {
  if (++refused_in_a_row_ < kMaxRefused) return;
  refused_in_a_row_ = 0;
  offloads_.Lose(gso_kind == VIRTIO_NET_HDR_GSO_UDP_L4 ? kTunUso : kTunTso, error);
}

}  // namespace flannelette
