#include "traffic.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <vector>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace bench {

namespace {

constexpr size_t kLargestBytes = 2048;
// An answer that takes longer is none.
constexpr timeval kPatience = {1, 0};

// The value below which `share` of the sorted values lie.
double Quantile(const std::vector<double>& sorted, double share) {
  if (sorted.empty()) return 0;
  return sorted[static_cast<size_t>(share * static_cast<double>(sorted.size() - 1))];
}

void Sleep(long microseconds) {
  const timespec time = {microseconds / 1'000'000, microseconds % 1'000'000 * 1'000};
  if (microseconds > 0) nanosleep(&time, nullptr);
}

}  // namespace

int Echo(const Options& options) {
  const int fd = OpenSocket(static_cast<uint16_t>(options.Number("port")));
  printf("{\"ready\":true}\n");
  fflush(stdout);
  uint8_t data[kLargestBytes];
  for (;;) {
    sockaddr_in peer;
    socklen_t length = sizeof peer;
    const ssize_t received = recvfrom(fd, data, sizeof data, 0, reinterpret_cast<sockaddr*>(&peer), &length);
    if (received < 0 && errno != EINTR && errno != ECONNREFUSED) Fail("recvfrom");
    // An answer that cannot be sent is one that the asker misses.
    if (received >= 0) {
      sendto(fd, data, static_cast<size_t>(received), 0, reinterpret_cast<const sockaddr*>(&peer), length);
    }
  }
}

int Ask(const Options& options) {
  sockaddr_in peer = {};
  peer.sin_family = AF_INET;
  peer.sin_addr.s_addr = htonl(options.Address("to"));
  peer.sin_port = htons(static_cast<uint16_t>(options.Number("port")));
  const size_t size = std::clamp(static_cast<size_t>(options.Number("size")), sizeof(Mark), kLargestBytes);
  const long gap = options.Number("gap");
  const int fd = OpenSocket(0);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&peer), sizeof peer) != 0) Fail("connect");
  if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience) != 0) Fail("setsockopt");

  std::vector<double> times;
  uint64_t asked = 0;
  uint8_t data[kLargestBytes] = {};
  for (const double end = Now() + static_cast<double>(options.Number("seconds")); Now() < end; Sleep(gap)) {
    const Mark question = {0, kMagic, asked++};
    __builtin_memcpy(data, &question, sizeof question);
    const double start = Now();
    if (send(fd, data, size, 0) < 0) continue;
    for (;;) {
      const ssize_t received = recv(fd, data, sizeof data, 0);
      if (received < 0) break;
      Mark answer;
      __builtin_memcpy(&answer, data, sizeof answer);
      // A late answer to an earlier question is passed over.
      if (answer.sequence != question.sequence) continue;
      times.push_back(Now() - start);
      break;
    }
  }
  std::sort(times.begin(), times.end());
  printf("{\"asked\":%llu,\"answered\":%zu,\"median\":%.9f,\"p99\":%.9f}\n", static_cast<unsigned long long>(asked),
         times.size(), Quantile(times, 0.5), Quantile(times, 0.99));
  return 0;
}

}  // namespace bench
