#include "notify.h"

#include <cerrno>
#include <cstring>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace flannelette {

int NotifySocket(const char* path, size_t path_length, const char* message, size_t message_length) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const bool abstract = path_length > 0 && path[0] == '@';
  // A path needs its terminating zero; an abstract name is exactly as long as it is.
  if (path_length == 0 || path_length + (abstract ? 0 : 1) > sizeof address.sun_path) return -EINVAL;
  memcpy(address.sun_path, path, path_length);
  if (abstract) address.sun_path[0] = '\0';
  const socklen_t length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path_length + (abstract ? 0 : 1));

  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  ssize_t sent;
  do {
    sent = sendto(fd, message, message_length, MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address), length);
  } while (sent < 0 && errno == EINTR);
  const int result = sent < 0 ? -errno : 0;
  close(fd);
  return result;
}

}  // namespace flannelette
