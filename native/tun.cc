#include "tun.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "wait.h"

namespace flannelette {

static_assert(kInterfaceNameBytes == IFNAMSIZ, "names of interfaces have another length here");

int OpenTun(const char* name, bool multi_queue) {
  if (strlen(name) >= kInterfaceNameBytes) return -ENAMETOOLONG;
  const int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return -errno;
  ifreq request{};
  memcpy(request.ifr_name, name, strlen(name));
  request.ifr_flags = static_cast<short>(IFF_TUN | IFF_NO_PI | (multi_queue ? IFF_MULTI_QUEUE : 0));
  if (ioctl(fd, TUNSETIFF, &request) < 0) {
    const int error = errno;
    close(fd);
    return -error;
  }
  return fd;
}

int TunName(int fd, char* name) {
  ifreq request{};
  if (ioctl(fd, TUNGETIFF, &request) < 0) return -errno;
  memcpy(name, request.ifr_name, kInterfaceNameBytes);
  name[kInterfaceNameBytes - 1] = '\0';
  return 0;
}

int SetTunPersistent(int fd, bool persistent) {
  return ioctl(fd, TUNSETPERSIST, persistent ? 1UL : 0UL) < 0 ? -errno : 0;
}

int ReadPacket(int fd, uint8_t* packet, size_t capacity) {
  for (;;) {
    const ssize_t length = read(fd, packet, capacity);
    if (length >= 0) return static_cast<int>(length);
    if (errno != EINTR) return -errno;
  }
}

int WritePacket(int fd, const uint8_t* packet, size_t length, int* patience) {
  for (;;) {
    if (write(fd, packet, length) >= 0) return 0;
    const int error = errno;
    if (error == EINTR) continue;
    if ((error != EAGAIN && error != ENOBUFS) || *patience <= 0) return error;
    *patience -= error == EAGAIN ? WaitWritable(fd, *patience) : WaitWritable(-1, 1);
  }
}

}  // namespace flannelette
