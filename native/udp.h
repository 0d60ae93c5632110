// The tunnel's UDP socket. Addresses and ports are integers in host order; results below zero are negated errno values.
#ifndef FLANNELETTE_UDP_H_
#define FLANNELETTE_UDP_H_

#include <cstddef>
#include <cstdint>

#include <netinet/in.h>
#include <linux/udp.h>
#include <sys/socket.h>

#include "offloads.h"

// Older headers do not name them.
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

namespace flannelette {

sockaddr_in SocketAddress(uint32_t address, uint16_t port);

// Opens a non-blocking socket that is bound to `address:port`, and asks for buffers of `buffer_bytes` each way (what the
// kernel grants is enough). Datagrams are never fragmented by this host: what does not fit fails with EMSGSIZE, so that
// the sender of the inner packet can be told. With `shared` several sockets may bind the same port (SO_REUSEPORT); the
// kernel then keeps the datagrams of one peer on one socket. Without it a second bind fails with -EADDRINUSE, which is
// how a second daemon is noticed; SO_REUSEADDR would let it steal the first one's datagrams.
int OpenUdp(uint32_t address, uint16_t port, bool shared, int buffer_bytes);

// What a socket is bound to. -EINVAL: it is no UDP socket over IPv4.
struct BoundSocket {
  uint32_t address;
  uint16_t port;
  bool gro;  // UDP_GRO is on
};
int BoundSocketOf(int fd, BoundSocket* bound);

// The largest IPv4 packet that the path from `source` to `destination` is known to carry.
int PathMtu(uint32_t source, uint32_t destination);

// Asks for an offload: 0, or a negated errno value when the kernel has it not or some filter forbids it. kUdpGro is on for
// the socket from then on, the others are only tried.
int TryUdpOffload(int fd, Offload offload);

// Sends messages, one after the other, until all are sent or one fails for good. Returns how many were sent; where that is
// not all of them, `*error` is the positive errno of the one after, which the caller may pass over. Retries: EINTR always;
// EAGAIN while `*patience` milliseconds last, which are taken off; ENOBUFS a few times; a socket error that an earlier
// datagram left (ECONNREFUSED and its like) once.
size_t SendMessages(int fd, mmsghdr* messages, size_t count, Offloads* offloads, int* patience, int* error);

// Receives up to `count` datagrams without waiting. Returns how many came, or -EAGAIN when none did.
int ReceiveMessages(int fd, mmsghdr* messages, size_t count, Offloads* offloads);

}  // namespace flannelette

#endif
