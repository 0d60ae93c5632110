#include "udp.h"

#include <cerrno>

#include <arpa/inet.h>
#include <unistd.h>

#include "wait.h"

namespace flannelette {

namespace {

constexpr int kNoBufferRetries = 3;

void AskForBuffer(int fd, int force_option, int option, int bytes) {
  // The forced form may exceed the system's limit and needs CAP_NET_ADMIN.
  if (setsockopt(fd, SOL_SOCKET, force_option, &bytes, sizeof bytes) == 0) return;
  setsockopt(fd, SOL_SOCKET, option, &bytes, sizeof bytes);
}

int Close(int fd, int error) {
  close(fd);
  return -error;
}

// Errors that a socket reports once, on whatever is sent next, about a datagram sent before.
bool MayConcernAnEarlierDatagram(int error) {
  return error == ECONNREFUSED || error == EHOSTUNREACH || error == ENETUNREACH || error == EPROTO ||
         error == ENOPROTOOPT || error == EHOSTDOWN || error == ECONNRESET;
}

// Whether a call is denied as such. A firewall, too, says EPERM to a datagram, but not to no datagram.
bool IsDenied(int fd, Offload offload, int error) {
  return error == ENOSYS || (error == EPERM && TryUdpOffload(fd, offload) < 0);
}

int SendOneByOne(int fd, mmsghdr* messages, unsigned count) {
  for (unsigned index = 0; index < count; index++) {
    const ssize_t sent = sendmsg(fd, &messages[index].msg_hdr, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) return index > 0 ? static_cast<int>(index) : -1;
    messages[index].msg_len = static_cast<unsigned>(sent);
  }
  return static_cast<int>(count);
}

int SendSome(int fd, mmsghdr* messages, unsigned count, Offloads* offloads) {
  if (count > 1 && offloads->Has(kSendmmsg)) {
    const int sent = sendmmsg(fd, messages, count, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) return sent;
    const int error = errno;
    if (!IsDenied(fd, kSendmmsg, error)) {
      errno = error;
      return -1;
    }
    offloads->Lose(kSendmmsg, error);
  }
  return SendOneByOne(fd, messages, count);
}

int ReceiveOneByOne(int fd, mmsghdr* messages, unsigned count) {
  for (unsigned index = 0; index < count; index++) {
    const ssize_t received = recvmsg(fd, &messages[index].msg_hdr, MSG_DONTWAIT);
    if (received < 0) return index > 0 ? static_cast<int>(index) : -1;
    messages[index].msg_len = static_cast<unsigned>(received);
  }
  return static_cast<int>(count);
}

int ReceiveSome(int fd, mmsghdr* messages, unsigned count, Offloads* offloads) {
  if (offloads->Has(kRecvmmsg)) {
    const int received = recvmmsg(fd, messages, count, MSG_DONTWAIT, nullptr);
    if (received >= 0) return received;
    const int error = errno;
    if (!IsDenied(fd, kRecvmmsg, error)) {
      errno = error;
      return -1;
    }
    offloads->Lose(kRecvmmsg, error);
  }
  return ReceiveOneByOne(fd, messages, count);
}

}  // namespace

sockaddr_in SocketAddress(uint32_t address, uint16_t port) {
  sockaddr_in result{};
  result.sin_family = AF_INET;
  result.sin_addr.s_addr = htonl(address);
  result.sin_port = htons(port);
  return result;
}

int OpenUdp(uint32_t address, uint16_t port, bool shared, int buffer_bytes) {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  const int one = 1;
  if (shared && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) < 0) return Close(fd, errno);
  const int never_fragment = IP_PMTUDISC_DO;
  if (setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &never_fragment, sizeof never_fragment) < 0) return Close(fd, errno);
  AskForBuffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, buffer_bytes);
  AskForBuffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, buffer_bytes);
  const sockaddr_in local = SocketAddress(address, port);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&local), sizeof local) < 0) return Close(fd, errno);
  return fd;
}

int BoundSocketOf(int fd, BoundSocket* bound) {
  const auto option = [fd](int level, int name, int* value) {
    socklen_t length = sizeof *value;
    return getsockopt(fd, level, name, value, &length);
  };
  sockaddr_in local{};
  socklen_t length = sizeof local;
  int protocol = 0;
  int gro = 0;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&local), &length) < 0) return -errno;
  if (option(SOL_SOCKET, SO_PROTOCOL, &protocol) < 0) return -errno;
  if (local.sin_family != AF_INET || protocol != IPPROTO_UDP) return -EINVAL;
  // A kernel without it has it not on.
  option(IPPROTO_UDP, UDP_GRO, &gro);
  *bound = {ntohl(local.sin_addr.s_addr), ntohs(local.sin_port), gro != 0};
  return 0;
}

int PathMtu(uint32_t source, uint32_t destination) {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  const sockaddr_in from = SocketAddress(source, 0);
  // Connecting a UDP socket sends nothing; the port only has to be one.
  const sockaddr_in to = SocketAddress(destination, 9);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&from), sizeof from) < 0) return Close(fd, errno);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) < 0) return Close(fd, errno);
  int mtu = 0;
  socklen_t length = sizeof mtu;
  if (getsockopt(fd, IPPROTO_IP, IP_MTU, &mtu, &length) < 0) return Close(fd, errno);
  close(fd);
  return mtu;
}

int TryUdpOffload(int fd, Offload offload) {
  const int on = 1;
  const int off = 0;
  const int segment_bytes = 1024;
  mmsghdr none{};
  int result = -1;
  errno = EINVAL;
  switch (offload) {
    case kUdpSegment:
      // The socket's own setting would cut everything; each send says for itself.
      result = setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &segment_bytes, sizeof segment_bytes);
      if (result == 0) result = setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &off, sizeof off);
      break;
    case kUdpGro:
      result = setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on);
      break;
    case kSendmmsg:
      result = sendmmsg(fd, &none, 0, MSG_DONTWAIT);
      break;
    case kRecvmmsg:
      result = recvmmsg(fd, &none, 0, MSG_DONTWAIT, nullptr);
      break;
    case kTunVnet:
    case kTunTso:
    case kTunUso:
    case kTunMultiQueue:
      break;
  }
  return result < 0 ? -errno : 0;
}

size_t SendMessages(int fd, mmsghdr* messages, size_t count, Offloads* offloads, int* patience, int* error) {
  size_t done = 0;
  bool retried = false;
  int no_buffer = 0;
  while (done < count) {
    const int sent = SendSome(fd, messages + done, static_cast<unsigned>(count - done), offloads);
    if (sent > 0) {
      done += static_cast<size_t>(sent);
      retried = false;
      no_buffer = 0;
      continue;
    }
    *error = sent < 0 ? errno : EAGAIN;
    if (*error == EINTR) continue;
    if (*error == EAGAIN && *patience > 0) {
      *patience -= WaitWritable(fd, *patience);
    } else if (*error == ENOBUFS && no_buffer < kNoBufferRetries && *patience > 0) {
      no_buffer++;
      *patience -= WaitWritable(-1, 1);
    } else if (MayConcernAnEarlierDatagram(*error) && !retried) {
      retried = true;
    } else {
      break;
    }
  }
  return done;
}

int ReceiveMessages(int fd, mmsghdr* messages, size_t count, Offloads* offloads) {
  // A socket reports each error of an earlier datagram once, and then what has arrived.
  for (int attempts = 0; attempts < 16; attempts++) {
    const int received = ReceiveSome(fd, messages, static_cast<unsigned>(count), offloads);
    if (received > 0) return received;
    if (received == 0 || errno == EAGAIN) return -EAGAIN;
    if (errno != EINTR && !MayConcernAnEarlierDatagram(errno)) return -errno;
  }
  return -EAGAIN;
}

}  // namespace flannelette
