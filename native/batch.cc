#include "batch.h"

#include <cerrno>

#include <arpa/inet.h>

#include "layout.h"
#include "tun.h"
#include "udp.h"
#include "wait.h"

namespace flannelette {

namespace {

// How long one transmit call may wait for room in the kernel's queues. Long enough for a queue of a slow link to move,
// short enough for a worker that is asked to stop.
constexpr int kPatienceMilliseconds = 50;

constexpr size_t kAlignment = 64;

constexpr size_t AlignUp(size_t offset) { return (offset + kAlignment - 1) & ~(kAlignment - 1); }

}  // namespace

Batch::Batch(uint8_t* arena, size_t arena_bytes, int32_t* descriptors, size_t capacity, int tun, int socket, int wakeup)
    : arena_(arena),
      arena_bytes_(arena_bytes),
      descriptors_(descriptors),
      capacity_(capacity),
      tun_(tun),
      socket_(socket),
      wakeup_(wakeup),
      messages_(new mmsghdr[capacity]()),
      vectors_(new iovec[capacity]()),
      addresses_(new sockaddr_in[capacity]()),
      senders_(new size_t[capacity]()),
      errors_(new int[capacity]()) {
  for (size_t index = 0; index < capacity; index++) {
    msghdr& header = messages_[index].msg_hdr;
    header.msg_name = &addresses_[index];
    header.msg_namelen = sizeof(sockaddr_in);
    header.msg_iov = &vectors_[index];
    header.msg_iovlen = 1;
  }
}

int32_t* Batch::Descriptor(size_t index) { return descriptors_ + index * kDescriptorWords; }

int Batch::EncapReceive() {
  for (;;) {
    const int received = DrainDevice();
    if (received != -EAGAIN) return received;
    const int waited = WaitReadable(tun_, wakeup_);
    if (waited != kReady) return waited;
  }
}

int Batch::DrainDevice() {
  size_t count = 0;
  size_t offset = kHeadroomBytes;
  while (count < capacity_ && offset + kMaxPacketBytes <= arena_bytes_) {
    const int length = ReadPacket(tun_, arena_ + offset, kMaxPacketBytes);
    // An error that comes after packets comes again with the next call.
    if (length < 0) return count > 0 ? static_cast<int>(count) : length;
    int32_t* descriptor = Descriptor(count++);
    descriptor[kOffset] = static_cast<int32_t>(offset);
    descriptor[kLength] = length;
    offset = AlignUp(offset + static_cast<size_t>(length)) + kHeadroomBytes;
  }
  return static_cast<int>(count);
}

void Batch::EncapTransmit(size_t count) {
  size_t used = 0;
  for (size_t index = 0; index < count; index++) {
    const int32_t* descriptor = Descriptor(index);
    if (descriptor[kVerdict] != kForward) continue;
    vectors_[used].iov_base = arena_ + descriptor[kOffset];
    vectors_[used].iov_len = static_cast<size_t>(descriptor[kLength]);
    addresses_[used] =
        SocketAddress(static_cast<uint32_t>(descriptor[kAddress]), static_cast<uint16_t>(descriptor[kPort]));
    senders_[used++] = index;
  }
  SendMessages(socket_, messages_.get(), used, errors_.get(), kPatienceMilliseconds);
  for (size_t index = 0; index < used; index++) Descriptor(senders_[index])[kError] = errors_[index];
}

int Batch::DecapReceive() {
  for (;;) {
    const int received = DrainSocket();
    if (received != -EAGAIN) return received;
    const int waited = WaitReadable(socket_, wakeup_);
    if (waited != kReady) return waited;
  }
}

int Batch::DrainSocket() {
  size_t places = arena_bytes_ / kDatagramPlaceBytes;
  if (places > capacity_) places = capacity_;
  for (size_t index = 0; index < places; index++) {
    vectors_[index].iov_base = arena_ + index * kDatagramPlaceBytes + kHeadroomBytes;
    vectors_[index].iov_len = kMaxPacketBytes;
    messages_[index].msg_hdr.msg_namelen = sizeof(sockaddr_in);
  }
  const int received = ReceiveMessages(socket_, messages_.get(), places);
  const size_t count = received > 0 ? static_cast<size_t>(received) : 0;
  for (size_t index = 0; index < count; index++) {
    int32_t* descriptor = Descriptor(index);
    descriptor[kOffset] = static_cast<int32_t>(index * kDatagramPlaceBytes + kHeadroomBytes);
    descriptor[kLength] = static_cast<int32_t>(messages_[index].msg_len);
    descriptor[kAddress] = static_cast<int32_t>(ntohl(addresses_[index].sin_addr.s_addr));
    descriptor[kPort] = ntohs(addresses_[index].sin_port);
  }
  return received;
}

void Batch::DecapTransmit(size_t count) {
  int patience = kPatienceMilliseconds;
  for (size_t index = 0; index < count; index++) {
    int32_t* descriptor = Descriptor(index);
    if (descriptor[kVerdict] != kForward) continue;
    descriptor[kError] = WritePacket(tun_, arena_ + descriptor[kOffset], static_cast<size_t>(descriptor[kLength]), &patience);
  }
}

}  // namespace flannelette
