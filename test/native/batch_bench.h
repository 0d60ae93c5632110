// A batch with its memory, for the tests of this folder: real sockets on loopback, and in place of the TUN device a pair of
// unix sockets that keep packets apart (SOCK_SEQPACKET).
#ifndef FLANNELETTE_TEST_BATCH_BENCH_H_
#define FLANNELETTE_TEST_BATCH_BENCH_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "expect.h"
#include "layout.h"
#include "offloads.h"
#include "udp.h"
#include "wait.h"

namespace flannelette {

constexpr uint32_t kLoopback = 0x7f000001;

inline uint16_t PortOf(int fd) {
  sockaddr_in address{};
  socklen_t length = sizeof address;
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  return ntohs(address.sin_port);
}

inline std::string Receive(int fd) {
  char buffer[65536];
  const ssize_t length = recv(fd, buffer, sizeof buffer, 0);
  return length < 0 ? std::string("nothing") : std::string(buffer, static_cast<size_t>(length));
}

// What a kernel without any offload leaves, but for several messages a call.
constexpr uint32_t kPlain = kSendmmsg | kRecvmmsg;

// A batch with its memory, a device that is a socket pair, and a socket on loopback.
template <typename Batch>
struct Bench {
  explicit Bench(uint32_t offloads = kPlain, size_t capacity = 16, size_t arena_bytes = 16 * kDatagramPlaceBytes)
      : arena(arena_bytes), descriptors(capacity * kDescriptorWords) {
    EXPECT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, device) == 0);
    socket = OpenUdp(kLoopback, 0, false, 1 << 20);
    peer = OpenUdp(kLoopback, 0, false, 1 << 20);
    wakeup = OpenWakeup();
    EXPECT(socket >= 0 && peer >= 0 && wakeup >= 0);
    if ((offloads & kUdpGro) != 0) EXPECT(TryUdpOffload(socket, kUdpGro) == 0);
    batch = std::make_unique<Batch>(arena.data(), arena.size(), descriptors.data(), capacity, device[0], socket, wakeup,
                                    offloads);
  }
  ~Bench() {
    for (int fd : {device[0], device[1], socket, peer, wakeup}) close(fd);
  }

  int32_t& Field(size_t index, DescriptorField field) { return descriptors[index * kDescriptorWords + field]; }

  void FromHost(const std::string& packet) {
    EXPECT(write(device[1], packet.data(), packet.size()) == static_cast<ssize_t>(packet.size()));
  }

  void FromPeer(const std::string& datagram) {
    const sockaddr_in to = SocketAddress(kLoopback, PortOf(socket));
    EXPECT(sendto(peer, datagram.data(), datagram.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof to) ==
           static_cast<ssize_t>(datagram.size()));
  }

  std::string Packet(size_t index) {
    return std::string(reinterpret_cast<char*>(arena.data()) + Field(index, kOffset),
                       static_cast<size_t>(Field(index, kLength)));
  }

  void Forward(size_t index, uint32_t address, uint16_t port) {
    Field(index, kVerdict) = kForward;
    Field(index, kAddress) = static_cast<int32_t>(address);
    Field(index, kPort) = port;
    Field(index, kError) = -1;
  }

  // All that arrives at the peer, in its order.
  std::vector<std::string> AtPeer() {
    std::vector<std::string> all;
    for (std::string one = Receive(peer); one != "nothing"; one = Receive(peer)) all.push_back(one);
    return all;
  }

  std::vector<uint8_t> arena;
  std::vector<int32_t> descriptors;
  int device[2] = {-1, -1};
  int socket = -1;
  int peer = -1;
  int wakeup = -1;
  std::unique_ptr<Batch> batch;
};

}  // namespace flannelette

#endif
