#include "traffic.h"

#include <cerrno>
#include <cstdio>
#include <vector>

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace bench {

namespace {

constexpr size_t kBatch = 64;
constexpr size_t kPlaceBytes = 2048;
constexpr int kStandardInput = 0;
// How long nothing may come before what was still on its way counts as lost.
constexpr int kQuietMs = 200;

class Counter {
 public:
  Counter(long flows, bool outer)
      : outer_(outer), next_(static_cast<size_t>(flows), 0), payloads_(kBatch * kPlaceBytes) {
    for (size_t index = 0; index < kBatch; index++) {
      vectors_[index] = {payloads_.data() + index * kPlaceBytes, kPlaceBytes};
      messages_[index].msg_hdr.msg_iov = &vectors_[index];
      messages_[index].msg_hdr.msg_iovlen = 1;
    }
  }

  // Takes what a socket has, at most a batch.
  void Read(int fd) {
    const int count = recvmmsg(fd, messages_, kBatch, MSG_DONTWAIT, nullptr);
    if (count < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNREFUSED) Fail("recvmmsg");
    if (count <= 0) return;
    last_ = Now();
    if (received_ == 0) first_ = last_;
    const uint8_t* place = payloads_.data();
    for (int index = 0; index < count; index++, place += kPlaceBytes) Take(place, messages_[index].msg_len);
  }

  void Print() const {
    size_t flows = 0;
    for (const uint64_t next : next_) flows += next > 0;
    printf("{\"received\":%llu,\"reordered\":%llu,\"flows\":%zu,\"seconds\":%.6f}\n",
           static_cast<unsigned long long>(received_), static_cast<unsigned long long>(reordered_), flows,
           last_ - first_);
  }

 private:
  void Take(const uint8_t* data, size_t length) {
    if (outer_) {
      const size_t headers = length == 0 ? 0 : (data[0] & 15u) * 4u + 8u;
      if (length < headers) return;
      data += headers;
      length -= headers;
    }
    Mark mark;
    if (length < sizeof mark) return;
    __builtin_memcpy(&mark, data, sizeof mark);
    if (mark.magic != kMagic || mark.flow >= next_.size()) return;
    received_++;
    if (mark.sequence < next_[mark.flow]) {
      reordered_++;
    } else {
      next_[mark.flow] = mark.sequence + 1;
    }
  }

  const bool outer_;
  // By flow, the sequence number after the highest that came.
  std::vector<uint64_t> next_;
  std::vector<uint8_t> payloads_;
  iovec vectors_[kBatch];
  mmsghdr messages_[kBatch] = {};
  uint64_t received_ = 0;
  uint64_t reordered_ = 0;
  double first_ = 0;
  double last_ = 0;
};

}  // namespace

int Count(const Options& options) {
  const long port = options.Number("port");
  const long ports = options.Number("ports");
  Counter counter(options.Number("flows"), options.Number("outer") != 0);
  const int poll = epoll_create1(EPOLL_CLOEXEC);
  if (poll < 0) Fail("epoll_create1");
  const auto watch = [poll](int fd) {
    epoll_event event = {};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) != 0) Fail("epoll_ctl");
  };
  for (long index = 0; index < ports; index++) watch(OpenSocket(static_cast<uint16_t>(port + index)));
  watch(kStandardInput);
  printf("{\"ready\":true}\n");
  fflush(stdout);

  bool ending = false;
  epoll_event events[64];
  for (;;) {
    const int count = epoll_wait(poll, events, 64, ending ? kQuietMs : -1);
    if (count < 0 && errno != EINTR) Fail("epoll_wait");
    if (count == 0) break;
    for (int index = 0; index < count; index++) {
      const int fd = events[index].data.fd;
      if (fd != kStandardInput) {
        counter.Read(fd);
        continue;
      }
      char ignored[64];
      if (read(fd, ignored, sizeof ignored) > 0) continue;
      ending = true;
      if (epoll_ctl(poll, EPOLL_CTL_DEL, fd, nullptr) != 0) Fail("epoll_ctl");
    }
  }
  counter.Print();
  return 0;
}

}  // namespace bench
