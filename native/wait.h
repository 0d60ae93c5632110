// Sleeping until a packet comes or another thread wants something. Results below zero are negated errno values.
#ifndef FLANNELETTE_WAIT_H_
#define FLANNELETTE_WAIT_H_

namespace flannelette {

enum WaitResult { kReady = 1, kWoken = 0 };

// A descriptor by which other threads wake a worker: eventfd(2), non-blocking, closed on exec.
int OpenWakeup();

// Ends the current sleep of the worker that waits on `wakeup`, or its next one. Safe from any thread.
int SignalWakeup(int wakeup);

// Waits for packets. Falling asleep and being woken costs more than a batch does, and a worker that sleeps at once is woken
// for each packet of a stream. So under load it looks again for a while first, and lets others run in between: those who
// make the packets. A worker whose packets come one by one sleeps at once and uses no processor meanwhile.
class Waiter {
 public:
  Waiter(int fd, int wakeup) : fd_(fd), wakeup_(wakeup) {}

  // Waits without limit until the descriptor is readable (kReady) or `wakeup` was signalled (kWoken; the signal is
  // consumed, and it comes first when both are). An error on the descriptor counts as readable: reading tells which.
  int Wait();

 private:
  const int fd_;
  const int wakeup_;
  bool under_load_ = false;  // the last wait was a short one
};

// Sleeps until `wakeup` is signalled (kWoken) or the time is over (kReady).
int Pause(int wakeup, int milliseconds);

// Sleeps until `fd` takes data again, or the time is over. Returns the milliseconds that may have passed, at least 1.
int WaitWritable(int fd, int milliseconds);

}  // namespace flannelette

#endif
