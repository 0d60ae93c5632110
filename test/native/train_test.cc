// Tests of the way out, native/train.h, on real sockets on loopback. The receiver has UDP_GRO on, so that it sees each
// train as it was sent. Prints what fails; the exit status says whether anything did.
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "expect.h"
#include "layout.h"
#include "offloads.h"
#include "train.h"
#include "udp.h"

using namespace flannelette;

namespace {

constexpr uint32_t kLoopback = 0x7f000001;
constexpr uint32_t kAll = kUdpSegment | kUdpGro | kSendmmsg | kRecvmmsg;

// What one recvmsg(2) brought: so many bytes, in datagrams of `datagram_bytes` (0: one datagram).
struct Arrival {
  size_t bytes;
  size_t datagram_bytes;
  std::string data;

  bool operator==(const Arrival& other) const {
    return bytes == other.bytes && datagram_bytes == other.datagram_bytes;
  }
};

Arrival A(size_t bytes, size_t datagram_bytes) { return {bytes, datagram_bytes, ""}; }

struct Receiver {
  Receiver() {
    fd = OpenUdp(kLoopback, 0, false, 8 << 20);
    EXPECT(fd >= 0);
    EXPECT(TryUdpOffload(fd, kUdpGro) == 0);
    sockaddr_in address{};
    socklen_t length = sizeof address;
    getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
    port = ntohs(address.sin_port);
  }
  ~Receiver() { close(fd); }

  std::vector<Arrival> All() {
    std::vector<Arrival> all;
    for (;;) {
      static char buffer[65536];
      alignas(cmsghdr) char control[64];
      iovec vector = {buffer, sizeof buffer};
      msghdr header{};
      header.msg_iov = &vector;
      header.msg_iovlen = 1;
      header.msg_control = control;
      header.msg_controllen = sizeof control;
      const ssize_t length = recvmsg(fd, &header, MSG_DONTWAIT);
      if (length < 0) return all;
      int datagram_bytes = 0;
      cmsghdr* const found = CMSG_FIRSTHDR(&header);
      if (found != nullptr) memcpy(&datagram_bytes, CMSG_DATA(found), sizeof datagram_bytes);
      const size_t bytes = static_cast<size_t>(length);
      all.push_back({bytes, static_cast<size_t>(datagram_bytes), std::string(buffer, bytes)});
    }
  }

  int fd;
  uint16_t port;
};

// A sender, and packets with a descriptor each.
struct Bench {
  explicit Bench(uint32_t rungs = kAll) : offloads(rungs), socket(OpenUdp(kLoopback, 0, false, 8 << 20)), sender(socket, &offloads) {
    EXPECT(socket >= 0);
    sender.Begin(50);
  }
  ~Bench() { close(socket); }

  // Packets of these sizes, each filled with its number.
  void Add(const std::vector<size_t>& sizes) {
    for (size_t size : sizes) {
      packets.push_back(std::vector<uint8_t>(size, static_cast<uint8_t>(packets.size())));
      descriptors.push_back(std::vector<int32_t>(kDescriptorWords, 0));
      sender.AddPacket(packets.back().data(), size, descriptors.back().data());
    }
  }

  bool AllSent() const {
    for (size_t index = 0; index < packets.size(); index++) {
      const std::vector<int32_t>& descriptor = descriptors[index];
      if (descriptor[kError] != 0 || descriptor[kSentPackets] != 1 ||
          descriptor[kSentBytes] != static_cast<int32_t>(packets[index].size())) {
        return false;
      }
    }
    return true;
  }

  std::string Sent() const {
    std::string all;
    for (const std::vector<uint8_t>& packet : packets) all.append(packet.begin(), packet.end());
    return all;
  }

  Offloads offloads;
  int socket;
  TrainSender sender;
  std::vector<std::vector<uint8_t>> packets;
  std::vector<std::vector<int32_t>> descriptors;
};

std::string Joined(const std::vector<Arrival>& arrivals) {
  std::string all;
  for (const Arrival& arrival : arrivals) all += arrival.data;
  return all;
}

std::vector<std::string> TakenApart(const std::vector<Arrival>& arrivals) {
  std::vector<std::string> all;
  for (const Arrival& arrival : arrivals) {
    const size_t step = arrival.datagram_bytes == 0 ? arrival.bytes : arrival.datagram_bytes;
    for (size_t at = 0; at < arrival.bytes; at += step) all.push_back(arrival.data.substr(at, step));
  }
  return all;
}

void NeighboursOfOneSizeAreATrain() {
  struct Case {
    std::vector<size_t> sizes;
    std::vector<Arrival> arrivals;
  };
  const Case cases[] = {
      {{100}, {A(100, 0)}},
      {{100, 100}, {A(200, 100)}},
      {{100, 100, 60}, {A(260, 100)}},           // the last may be shorter,
      {{100, 60, 60}, {A(160, 100), A(60, 0)}},  // but only the last
      {{60, 100}, {A(60, 0), A(100, 0)}},
      {{100, 100, 101}, {A(200, 100), A(101, 0)}},
      {{0, 100, 0}, {A(0, 0), A(100, 100)}},
      {std::vector<size_t>(130, 10), {A(640, 10), A(640, 10), A(20, 10)}},     // at most 64 datagrams,
      {std::vector<size_t>(60, 1472), {A(64768, 1472), A(16 * 1472, 1472)}},  // and 65,507 bytes
      {{65507, 65507}, {A(65507, 0), A(65507, 0)}},
  };
  for (const Case& one : cases) {
    Bench bench;
    Receiver receiver;
    bench.sender.NextHop(kLoopback, receiver.port);
    bench.Add(one.sizes);
    bench.sender.Flush();
    EXPECT(bench.AllSent());
    const std::vector<Arrival> arrivals = receiver.All();
    EXPECT(Joined(arrivals) == bench.Sent());
    // An empty datagram adds nothing that could be seen behind a train, so its case only compares the beginning.
    if (one.sizes.front() != 0) EXPECT(arrivals == one.arrivals);
  }
}

void NextHopsAreKeptApartAndMoreThanFitsGoesOutInBetween() {
  Bench bench;
  Receiver first;
  Receiver second;
  bench.sender.NextHop(kLoopback, first.port);
  bench.Add({100, 100});
  bench.sender.NextHop(kLoopback, second.port);
  bench.Add({100, 100, 100});
  bench.sender.Flush();
  EXPECT((first.All() == std::vector<Arrival>{A(200, 100)}));
  EXPECT((second.All() == std::vector<Arrival>{A(300, 100)}));

  Bench many;
  many.sender.NextHop(kLoopback, first.port);
  many.Add(std::vector<size_t>(2500, 3));
  many.sender.Flush();
  EXPECT(many.AllSent());
  EXPECT(Joined(first.All()) == many.Sent());
}

void WithoutTheOffloadEachGoesAlone() {
  for (uint32_t rungs : {0u, uint32_t{kSendmmsg}}) {
    Bench bench(rungs);
    Receiver receiver;
    bench.sender.NextHop(kLoopback, receiver.port);
    bench.Add({100, 100, 100});
    bench.sender.Flush();
    EXPECT(bench.AllSent());
    EXPECT((receiver.All() == std::vector<Arrival>{A(100, 0), A(100, 0), A(100, 0)}));
    EXPECT(bench.offloads.pending() == 0);
  }
}

// A socket that sends no UDP checksums is refused trains with EINVAL, and only those.
void ARefusedTrainGoesDatagramByDatagramBeforeWhatFollows() {
  Bench bench;
  Receiver receiver;
  const int on = 1;
  EXPECT(setsockopt(bench.socket, SOL_SOCKET, SO_NO_CHECK, &on, sizeof on) == 0);
  bench.sender.NextHop(kLoopback, receiver.port);
  bench.Add({50, 100, 100, 100, 30, 200, 200});
  bench.sender.Flush();
  EXPECT(bench.AllSent());
  EXPECT(Joined(receiver.All()) == bench.Sent());
  EXPECT(bench.offloads.pending() == 2);
  for (int times = 0; times < 2; times++) {
    const StepDown step = bench.offloads.Take();
    EXPECT(step.offload == kUdpSegment && step.error == EINVAL && step.address == kLoopback);
  }
  // It is remembered for that next hop,
  bench.sender.NextHop(kLoopback, receiver.port);
  bench.Add({100, 100});
  bench.sender.Flush();
  EXPECT((receiver.All() == std::vector<Arrival>{A(100, 0), A(100, 0)}));
  EXPECT(bench.offloads.pending() == 0 && bench.offloads.Has(kUdpSegment));
  // and for no other.
  const int off = 0;
  EXPECT(setsockopt(bench.socket, SOL_SOCKET, SO_NO_CHECK, &off, sizeof off) == 0);
  const int other = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  sockaddr_in address = SocketAddress(kLoopback + 1, 0);
  socklen_t length = sizeof address;
  EXPECT(bind(other, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  EXPECT(getsockname(other, reinterpret_cast<sockaddr*>(&address), &length) == 0);
  EXPECT(TryUdpOffload(other, kUdpGro) == 0);
  bench.sender.NextHop(kLoopback + 1, ntohs(address.sin_port));
  bench.Add({100, 100});
  bench.sender.Flush();
  char buffer[1000];
  EXPECT(recv(other, buffer, sizeof buffer, 0) == 200);
  close(other);
  EXPECT(bench.AllSent());
}

void WhatFailsForAnotherReasonIsNotTriedAgainAndHoldsNothingUp() {
  Bench bench;
  Receiver receiver;
  bench.sender.NextHop(0xffffffff, 9);  // broadcast without leave
  bench.Add({100, 100, 100});
  bench.sender.NextHop(kLoopback, receiver.port);
  bench.Add({100, 100});
  bench.sender.Flush();
  for (size_t index = 0; index < 3; index++) {
    const int error = bench.descriptors[index][kError];
    EXPECT(error == EACCES || error == ENETUNREACH);
    EXPECT(bench.descriptors[index][kSentPackets] == 0);
  }
  EXPECT((receiver.All() == std::vector<Arrival>{A(200, 100)}));
  EXPECT(bench.offloads.pending() == 0);
}

// An IPv4 packet of TCP with a payload that counts upwards, behind 20 bytes of header each.
std::vector<uint8_t> TcpPacket(size_t payload_bytes) {
  std::vector<uint8_t> packet(40 + payload_bytes);
  packet[0] = 0x45;
  Store16(&packet[kIpTotalLength], static_cast<uint32_t>(packet.size()));
  packet[kIpFragment] = 0x40;
  packet[kIpTtl] = 64;
  packet[kIpProtocol] = kTcp;
  Store32(&packet[kIpSource], 0x0a050106);
  Store32(&packet[kIpSource + 4], 0x0a052207);
  Store32(&packet[20 + kTcpSequence], 1000);
  packet[20 + kTcpDataOffset] = 0x50;
  packet[20 + kTcpFlags] = kTcpAck;
  for (size_t index = 0; index < payload_bytes; index++) packet[40 + index] = static_cast<uint8_t>(index * 7 + index / 251);
  return packet;
}

void ASuperPacketIsCutAndSentInAsManyTrainsAsItTakes() {
  VirtioHeader virtio{};
  virtio.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
  virtio.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
  virtio.hdr_len = 40;
  virtio.csum_start = 20;
  virtio.csum_offset = 16;
  struct Case {
    size_t payload_bytes;
    uint16_t segment_bytes;
    uint32_t segments;
  };
  for (const Case& one : {Case{1, 1000, 1}, Case{2500, 1000, 3}, Case{65000, 1432, 46}, Case{65000, 40, 1625}}) {
    virtio.gso_size = one.segment_bytes;
    std::vector<uint8_t> packet = TcpPacket(one.payload_bytes);
    SegmentPlan plan;
    EXPECT(PlanSegments(virtio, packet.data(), packet.size(), &plan) == static_cast<int>(one.segments));
    Bench bench;
    Receiver receiver;
    std::vector<int32_t> descriptor(kDescriptorWords, 0);
    bench.sender.NextHop(kLoopback, receiver.port);
    bench.sender.AddSuperPacket(plan, packet.data(), packet.data() + plan.header_bytes, false, descriptor.data());
    bench.sender.Flush();
    EXPECT(descriptor[kError] == 0);
    EXPECT(descriptor[kSentPackets] == static_cast<int32_t>(one.segments));
    EXPECT(descriptor[kSentBytes] == static_cast<int32_t>(one.payload_bytes + one.segments * 40));
    const std::vector<std::string> datagrams = TakenApart(receiver.All());
    EXPECT(datagrams.size() == one.segments);
    std::string payload;
    for (const std::string& datagram : datagrams) {
      const uint8_t* const bytes = reinterpret_cast<const uint8_t*>(datagram.data());
      EXPECT(Load16(bytes + kIpTotalLength) == datagram.size());
      EXPECT(Load32(bytes + 20 + kTcpSequence) == 1000 + payload.size());
      payload += datagram.substr(40);
    }
    EXPECT(payload == std::string(packet.begin() + 40, packet.end()));
  }
}

}  // namespace

int main() {
  NeighboursOfOneSizeAreATrain();
  NextHopsAreKeptApartAndMoreThanFitsGoesOutInBetween();
  WithoutTheOffloadEachGoesAlone();
  ARefusedTrainGoesDatagramByDatagramBeforeWhatFollows();
  WhatFailsForAnotherReasonIsNotTriedAgainAndHoldsNothingUp();
  ASuperPacketIsCutAndSentInAsManyTrainsAsItTakes();
  return Summary();
}
