#include "notify.h"

#include <cerrno>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "descriptor_passing.h"

namespace flannelette {

int NotifySocket(const char* path, size_t path_length, const char* message, size_t message_length, const int* fds,
                 size_t count) {
  sockaddr_un address;
  socklen_t length = 0;
  const int unfit = UnixAddress(path, path_length, &address, &length);
  if (unfit < 0) return unfit;
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  const int result = SendWithDescriptors(fd, &address, length, message, message_length, fds, count);
  close(fd);
  return result;
}

int NotifyBarrier(const char* path, size_t path_length, const char* message, size_t message_length, int milliseconds) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return -errno;
  const int sent = NotifySocket(path, path_length, message, message_length, &ends[1], 1);
  close(ends[1]);
  int result = sent;
  if (sent == 0) {
    pollfd polled{ends[0], 0, 0};
    int hung_up;
    do {
      hung_up = poll(&polled, 1, milliseconds);
    } while (hung_up < 0 && errno == EINTR);
    result = hung_up > 0 ? 0 : hung_up < 0 ? -errno : -ETIME;
  }
  close(ends[0]);
  return result;
}

}  // namespace flannelette
