#include "descriptor_passing.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

namespace flannelette {

int UnixAddress(const char* path, size_t path_length, sockaddr_un* address, socklen_t* length) {
  const bool abstract = path_length > 0 && path[0] == '@';
  // A path needs its terminating zero; an abstract name is exactly as long as it is.
  const size_t terminator = abstract ? 0 : 1;
  if (path_length == 0 || path_length + terminator > sizeof address->sun_path) return -EINVAL;
  *address = {};
  address->sun_family = AF_UNIX;
  memcpy(address->sun_path, path, path_length);
  if (abstract) address->sun_path[0] = '\0';
  *length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path_length + terminator);
  return 0;
}

int SendWithDescriptors(int socket, const sockaddr_un* address, socklen_t address_length, const char* message,
                        size_t message_length, const int* fds, size_t count) {
  if (count > kMaxPassedDescriptors) return -EINVAL;
  iovec vector{const_cast<char*>(message), message_length};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxPassedDescriptors * sizeof(int))] = {};
  msghdr header{};
  header.msg_name = const_cast<sockaddr_un*>(address);
  header.msg_namelen = address == nullptr ? 0 : address_length;
  header.msg_iov = &vector;
  header.msg_iovlen = 1;
  if (count > 0) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(count * sizeof(int));
    cmsghdr* const rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(rights), fds, count * sizeof(int));
  }
  for (;;) {
    if (sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return 0;
    if (errno != EINTR) return -errno;
  }
}

namespace {

constexpr int kMessages = SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC;

template <typename Attach>
int OpenForMessages(const char* path, size_t path_length, Attach attach) {
  sockaddr_un address;
  socklen_t length = 0;
  const int unfit = UnixAddress(path, path_length, &address, &length);
  if (unfit < 0) return unfit;
  const int fd = socket(AF_UNIX, kMessages, 0);
  if (fd < 0) return -errno;
  if (attach(fd, reinterpret_cast<const sockaddr*>(&address), length) >= 0) return fd;
  const int error = errno;
  close(fd);
  return -error;
}

}  // namespace

int ListenForMessages(const char* path, size_t path_length) {
  constexpr int kBacklog = 4;
  return OpenForMessages(path, path_length, [](int fd, const sockaddr* address, socklen_t length) {
    return bind(fd, address, length) < 0 ? -1 : listen(fd, kBacklog);
  });
}

int ConnectForMessages(const char* path, size_t path_length) { return OpenForMessages(path, path_length, connect); }

int AcceptConnection(int listener) {
  const int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

int ReceiveWithDescriptors(int socket, char* message, size_t capacity, int* fds, size_t* count) {
  *count = 0;
  iovec vector{message, capacity};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxPassedDescriptors * sizeof(int))];
  msghdr header{};
  header.msg_iov = &vector;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  ssize_t length;
  do {
    length = recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (length < 0 && errno == EINTR);
  // A peer that died with a message of ours unread.
  if (length < 0 && errno == ECONNRESET) return 0;
  if (length < 0) return -errno;
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    *count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(fds, CMSG_DATA(part), *count * sizeof(int));
  }
  if ((header.msg_flags & MSG_TRUNC) == 0) return static_cast<int>(length);
  for (size_t index = 0; index < *count; index++) close(fds[index]);
  *count = 0;
  return -EMSGSIZE;
}

int SetInherited(int fd, bool inherited) {
  const int flags = fcntl(fd, F_GETFD);
  if (flags < 0) return -errno;
  return fcntl(fd, F_SETFD, inherited ? flags & ~FD_CLOEXEC : flags | FD_CLOEXEC) < 0 ? -errno : 0;
}

}  // namespace flannelette
