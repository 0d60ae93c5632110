#ifndef FLANNELETTE_NOTIFY_H_
#define FLANNELETTE_NOTIFY_H_

#include <cstddef>

namespace flannelette {

// Sends one datagram to a unix socket, as sd_notify(3) does, with copies of descriptors; a path that begins with '@' is in
// the abstract namespace. 0, or a negated errno value. Never waits.
int NotifySocket(const char* path, size_t path_length, const char* message, size_t message_length, const int* fds,
                 size_t count);

// Sends `message` with the one end of a pipe and waits until the receiver has closed it, which it does when it has dealt
// with all that was sent before (BARRIER=1 of sd_notify(3)). -ETIME: that did not happen in time.
int NotifyBarrier(const char* path, size_t path_length, const char* message, size_t message_length, int milliseconds);

}  // namespace flannelette

#endif
