// Preloaded into an agent (LD_PRELOAD), it stands for a kernel, or a device, that refuses what it offered at the start:
//
//   REFUSE_TRAINS_TO=ADDRESS=ERRNO   sends with UDP_SEGMENT to this next hop fail, as over a device without checksums
//   REFUSE_CALLS_AFTER=COUNT=ERRNO   sendmmsg and recvmmsg fail from the COUNT-th call on, be it with no messages
//
// ERRNO is a number.
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include <arpa/inet.h>
#include <atomic>
#include <dlfcn.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace {

constexpr int kUdpSegment = 103;

// What a variable says: SUBJECT=ERRNO.
struct Refusal {
  std::string subject;
  int error = 0;

  explicit Refusal(const char* variable) {
    const char* const value = getenv(variable);
    const char* const equals = value == nullptr ? nullptr : strchr(value, '=');
    if (equals == nullptr) return;
    subject.assign(value, equals);
    error = atoi(equals + 1);
  }
};

bool IsRefused(const msghdr* message) {
  static const Refusal refusal("REFUSE_TRAINS_TO");
  if (refusal.error == 0 || message->msg_name == nullptr) return false;
  const auto* const to = static_cast<const sockaddr_in*>(message->msg_name);
  if (to->sin_family != AF_INET || to->sin_addr.s_addr != inet_addr(refusal.subject.c_str())) return false;
  auto* const header = const_cast<msghdr*>(message);
  for (cmsghdr* control = CMSG_FIRSTHDR(header); control != nullptr; control = CMSG_NXTHDR(header, control)) {
    if (control->cmsg_level != IPPROTO_UDP || control->cmsg_type != kUdpSegment) continue;
    errno = refusal.error;
    return true;
  }
  return false;
}

bool IsOver(std::atomic<int>* calls) {
  static const Refusal refusal("REFUSE_CALLS_AFTER");
  if (refusal.error == 0 || ++*calls < atoi(refusal.subject.c_str())) return false;
  errno = refusal.error;
  return true;
}

template <typename Function>
Function* Next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  static auto* const next = Next<ssize_t(int, const msghdr*, int)>("sendmsg");
  return IsRefused(message) ? -1 : next(fd, message, flags);
}

int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  static auto* const next = Next<int(int, mmsghdr*, unsigned, int)>("sendmmsg");
  static std::atomic<int> calls{0};
  if (IsOver(&calls)) return -1;
  // As the kernel does: those before the refused one are sent, and the error comes with the next call.
  unsigned passing = 0;
  while (passing < count && !IsRefused(&messages[passing].msg_hdr)) passing++;
  return passing == 0 && count > 0 ? -1 : next(fd, messages, passing, flags);
}

int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  static auto* const next = Next<int(int, mmsghdr*, unsigned, int, timespec*)>("recvmmsg");
  static std::atomic<int> calls{0};
  return IsOver(&calls) ? -1 : next(fd, messages, count, flags, timeout);
}

}  // extern "C"
