#include "wait.h"

#include <cerrno>
#include <cstdint>
#include <ctime>

#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace flannelette {

namespace {

// How long a worker under load looks for packets before it sleeps, and how short a wait has to be to speak of load.
constexpr int64_t kPollNanoseconds = 50'000;

int64_t NowNanoseconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

int64_t NowMilliseconds() { return NowNanoseconds() / 1'000'000; }

bool ConsumeWakeup(int wakeup) {
  uint64_t count = 0;
  return read(wakeup, &count, sizeof count) == static_cast<ssize_t>(sizeof count);
}

}  // namespace

int OpenWakeup() {
  int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

int SignalWakeup(int wakeup) {
  const uint64_t one = 1;
  for (;;) {
    if (write(wakeup, &one, sizeof one) == static_cast<ssize_t>(sizeof one)) return 0;
    if (errno == EAGAIN) return 0;  // the counter is full of signals that nobody has consumed: that will wake, too
    if (errno != EINTR) return -errno;
  }
}

int Waiter::Wait() {
  pollfd polled[2] = {{fd_, POLLIN, 0}, {wakeup_, POLLIN, 0}};
  const int64_t start = NowNanoseconds();
  for (;;) {
    const bool sleep = !under_load_ || NowNanoseconds() - start >= kPollNanoseconds;
    const int readable = poll(polled, 2, sleep ? -1 : 0);
    if (readable < 0 && errno != EINTR && errno != EAGAIN) return -errno;
    if (readable <= 0) {
      sched_yield();
      continue;
    }
    if (polled[1].revents != 0 && ConsumeWakeup(wakeup_)) return kWoken;
    if (polled[0].revents == 0) continue;
    under_load_ = NowNanoseconds() - start < 2 * kPollNanoseconds;
    return kReady;
  }
}

int Pause(int wakeup, int milliseconds) {
  pollfd polled{wakeup, POLLIN, 0};
  const int64_t end = NowMilliseconds() + milliseconds;
  for (;;) {
    const int64_t left = end - NowMilliseconds();
    const int result = poll(&polled, 1, left > 0 ? static_cast<int>(left) : 0);
    if (result == 0) return kReady;
    if (result > 0) {
      ConsumeWakeup(wakeup);
      return kWoken;
    }
    if (errno != EINTR && errno != EAGAIN) return -errno;
  }
}

int WaitWritable(int fd, int milliseconds) {
  pollfd polled{fd, POLLOUT, 0};
  const int64_t start = NowMilliseconds();
  poll(&polled, 1, milliseconds);
  const int64_t passed = NowMilliseconds() - start;
  return passed > 0 ? static_cast<int>(passed) : 1;
}

}  // namespace flannelette
