// Sleeping until a packet comes or another thread wants something. Results below zero are negated errno values.
#ifndef FLANNELETTE_WAIT_H_
#define FLANNELETTE_WAIT_H_

namespace flannelette {

enum WaitResult { kReady = 1, kWoken = 0 };

// A descriptor by which other threads wake a worker: eventfd(2), non-blocking, closed on exec.
int OpenWakeup();

// Ends the current sleep of the worker that waits on `wakeup`, or its next one. Safe from any thread.
int SignalWakeup(int wakeup);

// Sleeps without limit until `fd` is readable (kReady) or `wakeup` was signalled (kWoken; the signal is consumed, and it
// comes first when both are). An error on `fd` counts as readable: reading tells which.
int WaitReadable(int fd, int wakeup);

// Sleeps until `wakeup` is signalled (kWoken) or the time is over (kReady).
int Pause(int wakeup, int milliseconds);

// Sleeps until `fd` takes data again, or the time is over. Returns the milliseconds that may have passed, at least 1.
int WaitWritable(int fd, int milliseconds);

}  // namespace flannelette

#endif
