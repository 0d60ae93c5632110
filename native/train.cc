#include "train.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <arpa/inet.h>

#include "layout.h"
#include "udp.h"

namespace flannelette {

namespace {

// Errors that a train may meet where its datagrams one by one would not.
bool MayConcernTheTrainOnly(int error) {
  return error == EIO || error == EMSGSIZE || error == EINVAL || error == EPERM || error == ENOSYS ||
         error == ENOPROTOOPT || error == EOPNOTSUPP;
}

iovec Vector(const uint8_t* bytes, size_t length) { return {const_cast<uint8_t*>(bytes), length}; }

}  // namespace

TrainSender::TrainSender(int socket, Offloads* offloads)
    : socket_(socket),
      offloads_(offloads),
      datagrams_(new Datagram[kMaxDatagrams]),
      train_(new Train[kMaxDatagrams]),
      messages_(new mmsghdr[kMaxDatagrams]),
      vectors_(new iovec[2 * kMaxDatagrams]),
      headers_(new uint8_t[kMaxDatagrams * kHeaderPlaceBytes]) {}

void TrainSender::Begin(int patience) { patience_ = patience; }

void TrainSender::NextHop(uint32_t address, uint16_t port) {
  next_hop_ = SocketAddress(address, port);
  trains_ = offloads_->Has(kUdpSegment) && !refused_.Contains(address);
  if (train_count_ > 0) train_[train_count_ - 1].open = false;
}

void TrainSender::AddPacket(const uint8_t* packet, size_t length, int32_t* descriptor) {
  if (datagram_count_ == kMaxDatagrams) Flush();
  Append({packet, nullptr, static_cast<uint32_t>(length), 0, descriptor, 0});
}

void TrainSender::AddSuperPacket(const SegmentPlan& plan, const uint8_t* headers, uint8_t* payload, bool gaps,
                                 int32_t* descriptor) {
  const size_t stride = plan.segment_bytes + (gaps ? plan.header_bytes : 0);
  for (uint32_t first = 0; first < plan.count;) {
    if (datagram_count_ == kMaxDatagrams) Flush();
    const uint32_t room = static_cast<uint32_t>(kMaxDatagrams - datagram_count_);
    const uint32_t count = std::min(room, plan.count - first);
    uint8_t* const out = gaps ? payload - plan.header_bytes + first * stride
                              : headers_.get() + datagram_count_ * kHeaderPlaceBytes;
    const size_t out_stride = gaps ? stride : kHeaderPlaceBytes;
    WriteSegmentHeaders(plan, headers, payload, stride, first, count, out, out_stride);
    for (uint32_t index = 0; index < count; index++) {
      const uint32_t segment = first + index;
      Append({out + index * out_stride, payload + segment * stride, plan.header_bytes,
              plan.SegmentPayloadBytes(segment), descriptor, static_cast<int32_t>(segment)});
    }
    first += count;
  }
}

void TrainSender::Append(const Datagram& datagram) {
  const uint32_t bytes = datagram.bytes();
  Train* last = train_count_ > 0 ? &train_[train_count_ - 1] : nullptr;
  if (last == nullptr || !last->open || bytes > last->datagram_bytes || last->bytes + bytes > kMaxTrainBytes) {
    last = &train_[train_count_++];
    last->first = static_cast<uint32_t>(datagram_count_);
    last->count = 0;
    last->datagram_bytes = bytes;
    last->bytes = 0;
    last->open = trains_ && bytes > 0;
    last->address = next_hop_;
  } else if (bytes < last->datagram_bytes) {
    last->open = false;
  }
  datagrams_[datagram_count_++] = datagram;
  last->bytes += bytes;
  if (++last->count == kMaxTrainDatagrams) last->open = false;
}

void TrainSender::Flush() {
  size_t vector = 0;
  for (size_t index = 0; index < train_count_; index++) {
    Train& train = train_[index];
    msghdr& header = messages_[index].msg_hdr;
    header = {};
    header.msg_name = &train.address;
    header.msg_namelen = sizeof train.address;
    header.msg_iov = &vectors_[vector];
    header.msg_iovlen = FillVectors(train, vector);
    vector += header.msg_iovlen;
    if (train.count == 1) continue;
    header.msg_control = train.control;
    header.msg_controllen = sizeof train.control;
    cmsghdr* const control = CMSG_FIRSTHDR(&header);
    control->cmsg_level = IPPROTO_UDP;
    control->cmsg_type = UDP_SEGMENT;
    control->cmsg_len = CMSG_LEN(sizeof(uint16_t));
    const uint16_t segment_bytes = static_cast<uint16_t>(train.datagram_bytes);
    memcpy(CMSG_DATA(control), &segment_bytes, sizeof segment_bytes);
  }
  for (size_t done = 0; done < train_count_;) {
    int error = 0;
    const size_t sent =
        SendMessages(socket_, &messages_[done], train_count_ - done, offloads_, &patience_, &error);
    for (size_t index = 0; index < sent; index++) Sent(train_[done++]);
    if (done == train_count_) break;
    const Train& train = train_[done++];
    if (train.count > 1 && MayConcernTheTrainOnly(error)) {
      SendSingly(train, error);
    } else {
      for (uint32_t index = 0; index < train.count; index++) Failed(datagrams_[train.first + index], error);
    }
  }
  datagram_count_ = 0;
  train_count_ = 0;
}

size_t TrainSender::FillVectors(const Train& train, size_t vector) {
  const size_t begin = vector;
  const uint8_t* end = nullptr;  // of the last vector: what lies right behind it belongs to it
  const auto add = [&](const uint8_t* bytes, size_t length) {
    if (length == 0) return;
    if (bytes == end) {
      vectors_[vector - 1].iov_len += length;
    } else {
      vectors_[vector++] = Vector(bytes, length);
    }
    end = bytes + length;
  };
  for (uint32_t index = 0; index < train.count; index++) {
    const Datagram& datagram = datagrams_[train.first + index];
    add(datagram.header, datagram.header_bytes);
    add(datagram.payload, datagram.payload_bytes);
  }
  return vector - begin;
}

void TrainSender::SendSingly(const Train& train, int refusal) {
  mmsghdr messages[kMaxTrainDatagrams] = {};
  iovec vectors[kMaxTrainDatagrams][2];
  for (uint32_t index = 0; index < train.count; index++) {
    const Datagram& datagram = datagrams_[train.first + index];
    vectors[index][0] = Vector(datagram.header, datagram.header_bytes);
    vectors[index][1] = Vector(datagram.payload, datagram.payload_bytes);
    msghdr& header = messages[index].msg_hdr;
    header.msg_name = const_cast<sockaddr_in*>(&train.address);
    header.msg_namelen = sizeof train.address;
    header.msg_iov = vectors[index];
    header.msg_iovlen = 2;
  }
  bool full_size_passed = false;
  for (uint32_t done = 0; done < train.count;) {
    int error = 0;
    const size_t sent = SendMessages(socket_, messages + done, train.count - done, offloads_, &patience_, &error);
    for (size_t index = 0; index < sent; index++) {
      const Datagram& datagram = datagrams_[train.first + done++];
      full_size_passed |= datagram.bytes() == train.datagram_bytes;
      Sent(datagram);
    }
    if (done < train.count) Failed(datagrams_[train.first + done++], error);
  }
  // Where single datagrams fail as well, it was not for being a train.
  if (!full_size_passed) return;
  if (TryUdpOffload(socket_, kUdpSegment) < 0) {
    offloads_->Lose(kUdpSegment, refusal);
    return;
  }
  const uint32_t address = ntohl(train.address.sin_addr.s_addr);
  refused_.Remember(address);
  offloads_->Report({kUdpSegment, refusal, address});
}

void TrainSender::Sent(const Train& train) {
  for (uint32_t index = 0; index < train.count; index++) Sent(datagrams_[train.first + index]);
}

void TrainSender::Sent(const Datagram& datagram) {
  datagram.descriptor[kSentPackets]++;
  datagram.descriptor[kSentBytes] += static_cast<int32_t>(datagram.bytes());
}

void TrainSender::Failed(const Datagram& datagram, int error) {
  int32_t* const descriptor = datagram.descriptor;
  if (descriptor[kError] == 0) descriptor[kFirstFailed] = datagram.index;
  descriptor[kError] = error;
  descriptor[kLastFailed] = datagram.index;
  if (error != EMSGSIZE) return;
  if (descriptor[kTooBigPackets]++ == 0) descriptor[kFirstTooBig] = datagram.index;
  descriptor[kLastTooBig] = datagram.index;
}

}  // namespace flannelette
