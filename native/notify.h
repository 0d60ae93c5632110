#ifndef FLANNELETTE_NOTIFY_H_
#define FLANNELETTE_NOTIFY_H_

#include <cstddef>

namespace flannelette {

// Sends one datagram to a unix socket, as sd_notify(3) does; a path that begins with '@' is in the abstract namespace.
// 0, or a negated errno value. Never waits.
int NotifySocket(const char* path, size_t path_length, const char* message, size_t message_length);

}  // namespace flannelette

#endif
