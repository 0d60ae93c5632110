#include "stub_kernel.h"

#include <cerrno>
#include <cstring>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "train.h"
#include "udp.h"

namespace flannelette {

namespace {

StubKernel* kernel = nullptr;

constexpr size_t kMaxDatagramBytes = 65507;

bool IsStub(int fd) { return kernel != nullptr && fd >= kStubDevice && fd <= kStubWakeup; }

int Fail(int error) {
  errno = error;
  return -1;
}

std::string Gather(const iovec* vectors, size_t count) {
  std::string bytes;
  for (size_t index = 0; index < count; index++) {
    bytes.append(static_cast<const char*>(vectors[index].iov_base), vectors[index].iov_len);
  }
  return bytes;
}

// What does not fit is cut off, as the device and the socket do.
size_t Scatter(const std::string& bytes, const iovec* vectors, size_t count) {
  size_t done = 0;
  for (size_t index = 0; index < count && done < bytes.size(); index++) {
    const size_t length = std::min(vectors[index].iov_len, bytes.size() - done);
    memcpy(vectors[index].iov_base, bytes.data() + done, length);
    done += length;
  }
  return done;
}

size_t SegmentBytes(const msghdr& message) {
  if (message.msg_controllen == 0) return 0;
  const cmsghdr* const control = CMSG_FIRSTHDR(&message);
  if (control == nullptr || control->cmsg_level != IPPROTO_UDP || control->cmsg_type != UDP_SEGMENT) return 0;
  uint16_t bytes;
  memcpy(&bytes, CMSG_DATA(control), sizeof bytes);
  return bytes;
}

// The bytes that one message took, or -1.
int Send(const msghdr& message) {
  const std::string bytes = Gather(message.msg_iov, message.msg_iovlen);
  const size_t segment_bytes = SegmentBytes(message);
  EXPECT(message.msg_iovlen <= 1024 && message.msg_namelen == sizeof(sockaddr_in));
  if (segment_bytes > 0) {
    // What the kernel asks of a train.
    EXPECT(bytes.size() > segment_bytes && bytes.size() <= TrainSender::kMaxTrainBytes);
    EXPECT((bytes.size() - 1) / segment_bytes + 1 <= TrainSender::kMaxTrainDatagrams);
    const int error = kernel->Fault({EIO, EINVAL, EMSGSIZE, EPERM, ENOBUFS, EAGAIN, ECONNREFUSED, ENETUNREACH});
    if (error != 0) return Fail(error);
  } else {
    if (bytes.size() > kMaxDatagramBytes) return Fail(EMSGSIZE);
    const int error = kernel->Fault({EMSGSIZE, EPERM, ENOBUFS, EAGAIN, EHOSTUNREACH, ENETUNREACH, EINTR});
    if (error != 0) return Fail(error);
  }
  sockaddr_in to;
  memcpy(&to, message.msg_name, sizeof to);
  const size_t step = segment_bytes > 0 ? segment_bytes : bytes.size();
  size_t at = 0;
  do {
    kernel->to_network.push_back({ntohl(to.sin_addr.s_addr), ntohs(to.sin_port), bytes.substr(at, step), 0});
    at += step;
  } while (at < bytes.size());
  return static_cast<int>(bytes.size());
}

// The bytes that one message got, or -1.
int Receive(msghdr* message) {
  if (kernel->from_network.empty()) return Fail(EAGAIN);
  const int error = kernel->Fault({EINTR, ECONNREFUSED, EHOSTUNREACH});
  if (error != 0) return Fail(error);
  const StubDatagram datagram = kernel->from_network.front();
  kernel->from_network.pop_front();
  const sockaddr_in from = SocketAddress(datagram.address, datagram.port);
  EXPECT(message->msg_namelen >= sizeof from);
  memcpy(message->msg_name, &from, sizeof from);
  message->msg_namelen = sizeof from;
  if (datagram.train_datagram_bytes > 0 && message->msg_controllen >= CMSG_SPACE(sizeof(int))) {
    cmsghdr* const control = CMSG_FIRSTHDR(message);
    const int bytes = static_cast<int>(datagram.train_datagram_bytes);
    control->cmsg_level = IPPROTO_UDP;
    control->cmsg_type = UDP_GRO;
    control->cmsg_len = CMSG_LEN(sizeof bytes);
    memcpy(CMSG_DATA(control), &bytes, sizeof bytes);
    message->msg_controllen = CMSG_SPACE(sizeof bytes);
  } else {
    message->msg_controllen = 0;
  }
  return static_cast<int>(Scatter(datagram.bytes, message->msg_iov, message->msg_iovlen));
}

}  // namespace

StubKernel::StubKernel(FuzzInput* input) : faults(input) { kernel = this; }

StubKernel::~StubKernel() { kernel = nullptr; }

int StubKernel::Fault(const std::vector<int>& errors) {
  if (!faulty) return 0;
  const uint8_t choice = faults->Byte();
  return choice < 0xa0 ? 0 : errors[choice % errors.size()];
}

}  // namespace flannelette

using namespace flannelette;

extern "C" {

ssize_t readv(int fd, const iovec* vectors, int count) {
  if (!IsStub(fd)) return syscall(SYS_readv, fd, vectors, count);
  if (kernel->from_device.empty()) return Fail(EAGAIN);
  const int error = kernel->Fault({EINTR});
  if (error != 0) return Fail(error);
  const std::string packet = kernel->from_device.front();
  kernel->from_device.pop_front();
  return static_cast<ssize_t>(Scatter(packet, vectors, static_cast<size_t>(count)));
}

ssize_t writev(int fd, const iovec* vectors, int count) {
  if (!IsStub(fd)) return syscall(SYS_writev, fd, vectors, count);
  EXPECT(count <= 1024);
  const int error = kernel->Fault({EINVAL, EINVAL, EIO, EAGAIN, ENOBUFS, EINTR});
  if (error != 0) return Fail(error);
  kernel->to_device.push_back(Gather(vectors, static_cast<size_t>(count)));
  return static_cast<ssize_t>(kernel->to_device.back().size());
}

ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  return IsStub(fd) ? Send(*message) : syscall(SYS_sendmsg, fd, message, flags);
}

int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  if (!IsStub(fd)) return static_cast<int>(syscall(SYS_sendmmsg, fd, messages, count, flags));
  for (unsigned index = 0; index < count; index++) {
    const int sent = Send(messages[index].msg_hdr);
    if (sent < 0) return index > 0 ? static_cast<int>(index) : -1;
    messages[index].msg_len = static_cast<unsigned>(sent);
  }
  return static_cast<int>(count);
}

ssize_t recvmsg(int fd, msghdr* message, int flags) {
  return IsStub(fd) ? Receive(message) : syscall(SYS_recvmsg, fd, message, flags);
}

int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  if (!IsStub(fd)) return static_cast<int>(syscall(SYS_recvmmsg, fd, messages, count, flags, timeout));
  for (unsigned index = 0; index < count; index++) {
    const int received = Receive(&messages[index].msg_hdr);
    if (received < 0) return index > 0 ? static_cast<int>(index) : -1;
    messages[index].msg_len = static_cast<unsigned>(received);
  }
  return static_cast<int>(count);
}

// Nothing is ever waited for: what is asked is there. Under a name of its own, for a compiler that knows poll(2) believes
// that it only writes to its first argument.
int StubPoll(pollfd* polled, nfds_t count, int timeout) __asm__("poll");
int StubPoll(pollfd* polled, nfds_t count, int timeout) {
  bool stub = count == 1 && polled[0].fd < 0;
  for (nfds_t index = 0; index < count; index++) stub |= IsStub(polled[index].fd);
  if (!stub || kernel == nullptr) return static_cast<int>(syscall(SYS_poll, polled, count, timeout));
  for (nfds_t index = 0; index < count; index++) {
    polled[index].revents = polled[index].fd == kStubWakeup ? 0 : polled[index].events;
  }
  return static_cast<int>(count);
}

int setsockopt(int fd, int level, int option, const void* value, socklen_t length) noexcept {
  if (!IsStub(fd)) return static_cast<int>(syscall(SYS_setsockopt, fd, level, option, value, length));
  const int error = kernel->Fault({ENOPROTOOPT});
  return error == 0 ? 0 : Fail(error);
}

}  // extern "C"
