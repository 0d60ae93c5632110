// Descriptors on their way to other processes: messages with SCM_RIGHTS over unix sockets (unix(7)). Results below zero are
// negated errno values.
#ifndef FLANNELETTE_DESCRIPTOR_PASSING_H_
#define FLANNELETTE_DESCRIPTOR_PASSING_H_

#include <cstddef>
#include <cstdint>

#include <sys/socket.h>
#include <sys/un.h>

namespace flannelette {

constexpr size_t kMaxPassedDescriptors = 253;  // SCM_MAX_FD
constexpr size_t kMaxMessageBytes = 65536;

// The address of a path; one that begins with '@' is in the abstract namespace. -EINVAL: it is too long.
int UnixAddress(const char* path, size_t path_length, sockaddr_un* address, socklen_t* length);

// Sends one message with copies of descriptors, to `address` or, with a null one, to whom the socket is connected. Never
// waits.
int SendWithDescriptors(int socket, const sockaddr_un* address, socklen_t address_length, const char* message,
                        size_t message_length, const int* fds, size_t count);

// Connections whose messages keep their bounds and may carry descriptors (SOCK_SEQPACKET), non-blocking, closed on exec.
int ListenForMessages(const char* path, size_t path_length);
int ConnectForMessages(const char* path, size_t path_length);
int AcceptConnection(int listener);

// Takes one message, and up to kMaxPassedDescriptors descriptors with it, which are the caller's then. The message's bytes;
// 0: the other end is closed; -EAGAIN: there is none; -EMSGSIZE: it was larger than `capacity`.
int ReceiveWithDescriptors(int socket, char* message, size_t capacity, int* fds, size_t* count);

// Whether a descriptor goes to programs that this process executes.
int SetInherited(int fd, bool inherited);

}  // namespace flannelette

#endif
