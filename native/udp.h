// The tunnel's UDP socket. Addresses and ports are integers in host order; results below zero are negated errno values.
#ifndef FLANNELETTE_UDP_H_
#define FLANNELETTE_UDP_H_

#include <cstddef>
#include <cstdint>

#include <netinet/in.h>
#include <sys/socket.h>

namespace flannelette {

sockaddr_in SocketAddress(uint32_t address, uint16_t port);

// Opens a non-blocking socket that is bound to `address:port`, and asks for buffers of `buffer_bytes` each way (what the
// kernel grants is enough). Datagrams are never fragmented by this host: what does not fit fails with EMSGSIZE, so that
// the sender of the inner packet can be told. With `shared` several sockets may bind the same port (SO_REUSEPORT); the
// kernel then keeps the datagrams of one peer on one socket. Without it a second bind fails with -EADDRINUSE, which is
// how a second daemon is noticed; SO_REUSEADDR would let it steal the first one's datagrams.
int OpenUdp(uint32_t address, uint16_t port, bool shared, int buffer_bytes);

// The largest IPv4 packet that the path from `source` to `destination` is known to carry.
int PathMtu(uint32_t source, uint32_t destination);

// Sends messages, one after the other, and sets `errors[i]` to 0 or the positive errno of message i, after retries:
// EINTR always; EAGAIN while `patience` milliseconds last; ENOBUFS a few times; a socket error that an earlier datagram
// left (ECONNREFUSED and its like) once. A message that fails holds no other up.
void SendMessages(int fd, mmsghdr* messages, size_t count, int* errors, int patience);

// Receives up to `count` datagrams without waiting. Returns how many came, or -EAGAIN when none did.
int ReceiveMessages(int fd, mmsghdr* messages, size_t count);

namespace internal {
// For kernels without sendmmsg(2) and recvmmsg(2), and for tests, which switch to these: the same, one message a call.
int SendOneByOne(int fd, mmsghdr* messages, unsigned count);
int ReceiveOneByOne(int fd, mmsghdr* messages, unsigned count);
}  // namespace internal

}  // namespace flannelette

#endif
