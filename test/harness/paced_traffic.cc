// Datagrams at a steady rate, and an account of those that arrive: one of two ends of a path, which do the same.
//
//   paced_traffic ADDRESS PORT PEER RATE BYTES [COUNT]
//
// Sends RATE datagrams a second to PEER, COUNT at most, from the time that the first line comes on standard input, stops
// with the end of it, and then takes what is still on its way until nothing has come for a second. Each has a number, by which the end
// that receives knows what was lost or overtaken. Says "listening", and at its end a line of JSON. Times are of when the
// kernel took a datagram off its interface, so that this program's own pauses are none of the path's.
#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

constexpr int64_t kSecond = 1'000'000'000;

int64_t Now(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return now.tv_sec * kSecond + now.tv_nsec;
}

sockaddr_in Address(const char* address, const char* port) {
  sockaddr_in result{};
  result.sin_family = AF_INET;
  result.sin_port = htons(static_cast<uint16_t>(atoi(port)));
  inet_pton(AF_INET, address, &result.sin_addr);
  return result;
}

struct Arrivals {
  std::vector<bool> seen;
  uint64_t received = 0;
  uint64_t duplicates = 0;
  uint64_t overtaken = 0;
  uint64_t highest = 0;
  int64_t last_at = 0;
  int64_t longest_gap = 0;

  void Take(uint64_t number, int64_t at) {
    if (number >= seen.size()) seen.resize(number + 4096);
    if (seen[number]) {
      duplicates++;
      return;
    }
    seen[number] = true;
    if (received > 0 && number < highest) overtaken++;
    highest = std::max(highest, number);
    if (received > 0) longest_gap = std::max(longest_gap, at - last_at);
    last_at = at;
    received++;
  }
};

// Whether a datagram was there.
bool Receive(int fd, Arrivals* arrivals) {
  uint64_t number = 0;
  iovec vector{&number, sizeof number};
  alignas(cmsghdr) char control[128];
  msghdr header{};
  header.msg_iov = &vector;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  if (recvmsg(fd, &header, MSG_DONTWAIT) < 0) return false;
  int64_t at = Now(CLOCK_REALTIME);
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_TIMESTAMPNS) continue;
    timespec stamp{};
    memcpy(&stamp, CMSG_DATA(part), sizeof stamp);
    at = stamp.tv_sec * kSecond + stamp.tv_nsec;
  }
  arrivals->Take(number, at);
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6 && argc != 7) return 2;
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  const int on = 1;
  const int buffer_bytes = 64 << 20;
  setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer_bytes, sizeof buffer_bytes);
  const sockaddr_in own = Address(argv[1], argv[2]);
  const sockaddr_in peer = Address(argv[3], argv[2]);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&own), sizeof own) < 0) {
    perror("bind");
    return 1;
  }
  const int64_t interval = kSecond / atoi(argv[4]);
  const uint64_t count = argc == 7 ? strtoull(argv[6], nullptr, 10) : UINT64_MAX;
  std::vector<char> payload(static_cast<size_t>(atoi(argv[5])));
  puts("listening");
  fflush(stdout);

  Arrivals arrivals;
  uint64_t sent = 0;
  uint64_t refused = 0;
  int64_t start = 0;
  int64_t quiet_since = 0;
  enum { kWaiting, kSending, kTail } phase = kWaiting;
  for (;;) {
    const int64_t now = Now(CLOCK_MONOTONIC);
    while (phase == kSending && sent < count && start + static_cast<int64_t>(sent) * interval <= now) {
      memcpy(payload.data(), &sent, sizeof sent);
      if (sendto(fd, payload.data(), payload.size(), 0, reinterpret_cast<const sockaddr*>(&peer), sizeof peer) < 0) {
        refused++;
      }
      sent++;
    }
    int64_t wait = kSecond / 10;
    if (phase == kSending && sent < count) wait = start + static_cast<int64_t>(sent) * interval - Now(CLOCK_MONOTONIC);
    pollfd polled[] = {{fd, POLLIN, 0}, {0, POLLIN, 0}};
    const timespec timeout{0, std::max<int64_t>(wait, 0)};
    ppoll(polled, phase == kTail ? 1 : 2, &timeout, nullptr);
    while (Receive(fd, &arrivals)) quiet_since = Now(CLOCK_MONOTONIC);
    if (phase == kTail) {
      if (Now(CLOCK_MONOTONIC) - quiet_since > kSecond) break;
      continue;
    }
    if ((polled[1].revents & (POLLIN | POLLHUP)) == 0) continue;
    char line[64];
    if (read(0, line, sizeof line) > 0) {
      phase = kSending;
      start = Now(CLOCK_MONOTONIC);
    } else {
      phase = kTail;
      quiet_since = Now(CLOCK_MONOTONIC);
    }
  }
  printf("{\"sent\":%llu,\"refused\":%llu,\"received\":%llu,\"duplicates\":%llu,\"overtaken\":%llu,\"longestGapMs\":%.1f}\n",
         static_cast<unsigned long long>(sent), static_cast<unsigned long long>(refused),
         static_cast<unsigned long long>(arrivals.received), static_cast<unsigned long long>(arrivals.duplicates),
         static_cast<unsigned long long>(arrivals.overtaken), static_cast<double>(arrivals.longest_gap) / 1e6);
  return 0;
}
