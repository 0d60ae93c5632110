#include "tun.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "virtio.h"
#include "wait.h"

// Since Linux 6.2; older headers do not name them.
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

namespace flannelette {

static_assert(kInterfaceNameBytes == IFNAMSIZ, "names of interfaces have another length here");

int OpenTun(const char* name, bool multi_queue, bool virtio) {
  if (strlen(name) >= kInterfaceNameBytes) return -ENAMETOOLONG;
  const int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return -errno;
  ifreq request{};
  memcpy(request.ifr_name, name, strlen(name));
  request.ifr_flags = static_cast<short>(IFF_TUN | IFF_NO_PI | (multi_queue ? IFF_MULTI_QUEUE : 0) |
                                         (virtio ? IFF_VNET_HDR : 0));
  if (ioctl(fd, TUNSETIFF, &request) < 0) {
    const int error = errno;
    close(fd);
    return -error;
  }
  // A device from before keeps the header size that it was given. Where that cannot be set, there is no such shape.
  const int header_bytes = static_cast<int>(kVirtioHeaderBytes);
  if (virtio && ioctl(fd, TUNSETVNETHDRSZ, &header_bytes) < 0) {
    close(fd);
    return -EINVAL;
  }
  return fd;
}

int SetTunOffloads(int fd, bool checksum, bool tso, bool uso) {
  unsigned long offloads = 0;
  if (checksum) offloads |= TUN_F_CSUM;
  // With TSO_ECN a super-packet may carry CWR, which belongs to its first segment only: cutting sees to that.
  if (checksum && tso) offloads |= TUN_F_TSO4 | TUN_F_TSO_ECN;
  if (checksum && uso) offloads |= TUN_F_USO4 | TUN_F_USO6;  // the kernel takes only both
  return ioctl(fd, TUNSETOFFLOAD, offloads) < 0 ? -errno : 0;
}

int TunLeavesChecksums(int fd) {
  ifreq request{};
  if (ioctl(fd, TUNGETIFF, &request) < 0) return -errno;
  ethtool_value checksums{};
  checksums.cmd = ETHTOOL_GTXCSUM;
  request.ifr_data = reinterpret_cast<char*>(&checksums);
  const int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (any < 0) return -errno;
  const int result = ioctl(any, SIOCETHTOOL, &request) < 0 ? -errno : checksums.data != 0;
  close(any);
  return result;
}

int TunName(int fd, char* name) {
  ifreq request{};
  if (ioctl(fd, TUNGETIFF, &request) < 0) return -errno;
  memcpy(name, request.ifr_name, kInterfaceNameBytes);
  name[kInterfaceNameBytes - 1] = '\0';
  return 0;
}

int QueueShapeOf(int fd, QueueShape* shape, char* name) {
  ifreq request{};
  if (ioctl(fd, TUNGETIFF, &request) < 0) return -errno;
  const auto flags = static_cast<unsigned short>(request.ifr_flags);
  int header_bytes = 0;
  if ((flags & IFF_TUN) == 0 || (flags & IFF_NO_PI) == 0) return -EINVAL;
  if (ioctl(fd, TUNGETVNETHDRSZ, &header_bytes) < 0) return -errno;
  *shape = {(flags & IFF_MULTI_QUEUE) != 0, (flags & IFF_VNET_HDR) != 0, (flags & IFF_DETACH_QUEUE) != 0};
  if (shape->virtio && header_bytes != static_cast<int>(kVirtioHeaderBytes)) return -EINVAL;
  memcpy(name, request.ifr_name, kInterfaceNameBytes);
  name[kInterfaceNameBytes - 1] = '\0';
  return 0;
}

int DetachQueue(int fd) {
  ifreq request{};
  request.ifr_flags = IFF_DETACH_QUEUE;
  return ioctl(fd, TUNSETQUEUE, &request) < 0 ? -errno : 0;
}

int SetTunPersistent(int fd, bool persistent) {
  return ioctl(fd, TUNSETPERSIST, persistent ? 1UL : 0UL) < 0 ? -errno : 0;
}

int ReadPacket(int fd, const iovec* vectors, size_t count) {
  for (;;) {
    const ssize_t length = readv(fd, vectors, static_cast<int>(count));
    if (length >= 0) return static_cast<int>(length);
    if (errno != EINTR) return -errno;
  }
}

int WritePacket(int fd, const iovec* vectors, size_t count, int* patience) {
  for (;;) {
    if (writev(fd, vectors, static_cast<int>(count)) >= 0) return 0;
    const int error = errno;
    if (error == EINTR) continue;
    if ((error != EAGAIN && error != ENOBUFS) || *patience <= 0) return error;
    *patience -= error == EAGAIN ? WaitWritable(fd, *patience) : WaitWritable(-1, 1);
  }
}

}  // namespace flannelette
