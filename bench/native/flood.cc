#include "traffic.h"

#include <cerrno>
#include <cstdio>
#include <vector>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace bench {

namespace {

// Enough that a system call costs little, few enough that a flow's packets are not one burst.
constexpr size_t kBatch = 64;

sockaddr_in Destination(uint32_t to, long port, uint32_t flow, long subnets) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(to + 256 * static_cast<uint32_t>(flow % subnets));
  address.sin_port = htons(static_cast<uint16_t>(port + flow / subnets));
  return address;
}

// What a network says about earlier datagrams, or a full queue: the flood goes on.
bool IsPassing(int error) {
  return error == ECONNREFUSED || error == ENOBUFS || error == EAGAIN || error == EINTR || error == EHOSTUNREACH ||
         error == ENETUNREACH || error == EPERM;
}

}  // namespace

int Flood(const Options& options) {
  const uint32_t flows = static_cast<uint32_t>(options.Number("flows"));
  const long subnets = options.Number("subnets");
  const size_t size = static_cast<size_t>(options.Number("size"));
  if (flows < 1 || subnets < 1 || size < sizeof(Mark)) {
    fprintf(stderr, "traffic: flood: expected flows and subnets of 1 or more, and size of %zu or more\n", sizeof(Mark));
    return 2;
  }
  std::vector<sockaddr_in> destinations;
  for (uint32_t flow = 0; flow < flows; flow++) {
    destinations.push_back(Destination(options.Address("to"), options.Number("port"), flow, subnets));
  }
  const int fd = OpenSocket(0);
  // A connected socket spares the kernel the route of every datagram.
  const bool connected = flows == 1;
  if (connected && connect(fd, reinterpret_cast<sockaddr*>(destinations.data()), sizeof(sockaddr_in)) != 0) {
    Fail("connect");
  }

  std::vector<uint8_t> payloads(kBatch * size);
  std::vector<iovec> vectors(kBatch);
  std::vector<mmsghdr> messages(kBatch);
  for (size_t index = 0; index < kBatch; index++) {
    vectors[index] = {payloads.data() + index * size, size};
    messages[index].msg_hdr.msg_iov = &vectors[index];
    messages[index].msg_hdr.msg_iovlen = 1;
  }
  std::vector<uint64_t> sequences(flows, 0);
  uint64_t sent = 0;
  uint32_t next = 0;
  const double start = Now();
  const double end = start + static_cast<double>(options.Number("seconds"));
  double now = start;
  for (; now < end; now = Now()) {
    for (size_t index = 0; index < kBatch; index++) {
      const uint32_t flow = next;
      next = next + 1 == flows ? 0 : next + 1;
      // A payload's place may be unaligned: sizes are the caller's.
      const Mark mark = {flow, kMagic, sequences[flow]++};
      __builtin_memcpy(payloads.data() + index * size, &mark, sizeof mark);
      if (!connected) {
        messages[index].msg_hdr.msg_name = &destinations[flow];
        messages[index].msg_hdr.msg_namelen = sizeof(sockaddr_in);
      }
    }
    for (size_t done = 0; done < kBatch;) {
      const int result = sendmmsg(fd, messages.data() + done, static_cast<unsigned>(kBatch - done), 0);
      if (result < 0 && !IsPassing(errno)) Fail("sendmmsg");
      // One that was refused is skipped; the receiver counts it as lost, as it should.
      done += result < 0 ? 1 : static_cast<size_t>(result);
    }
    sent += kBatch;
  }
  printf("{\"sent\":%llu,\"seconds\":%.6f}\n", static_cast<unsigned long long>(sent), now - start);
  return 0;
}

}  // namespace bench
