// What native/ makes of packets beside what the kernel makes of the same: run in a namespace that routes from one device
// to the other (kernel-segmentation.test.ts).
//
//   this program ── in0 ══ kernel: forwards ══ out0 ── this program
//                virtio headers              no offloads: what comes out the kernel has cut and finished itself
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../../native/packets.h"
#include "coalesce.h"
#include "segment.h"

using namespace flannelette;

namespace {

// What out0's queue holds (set by the test) is more than any one write of ours becomes.
constexpr size_t kMaxSegments = 64;

int Open(const char* name, short flags) {
  const int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
  ifreq request{};
  strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
  request.ifr_flags = static_cast<short>(IFF_TUN | IFF_NO_PI | flags);
  if (fd < 0 || ioctl(fd, TUNSETIFF, &request) != 0) {
    fprintf(stderr, "%s: %s\n", name, strerror(errno));
    exit(1);
  }
  return fd;
}

class Kernel {
 public:
  // 0, or errno.
  int Write(const VirtioHeader& virtio, const std::string& packet) {
    VirtioHeader header = virtio;
    iovec vectors[] = {{&header, sizeof header}, {const_cast<char*>(packet.data()), packet.size()}};
    return writev(in_, vectors, 2) < 0 ? errno : 0;
  }

  // The next packet that comes out; empty after a while without any.
  std::string ReadOne(int patience_milliseconds = 10000) {
    for (;;) {
      const ssize_t length = read(out_, buffer_, sizeof buffer_);
      if (length > 0 && buffer_[0] >> 4 == 4) return std::string(buffer_, static_cast<size_t>(length));
      if (length > 0) continue;  // neighbours that IPv6 looks for
      pollfd wanted{out_, POLLIN, 0};
      if (errno != EAGAIN || poll(&wanted, 1, patience_milliseconds) != 1) return {};
    }
  }

  std::vector<std::string> Read(size_t count) {
    std::vector<std::string> packets;
    while (packets.size() < count) {
      packets.push_back(ReadOne());
      if (packets.back().empty()) break;
    }
    return packets;
  }

 private:
  const int in_ = Open("in0", IFF_VNET_HDR);
  const int out_ = Open("out0", 0);
  char buffer_[65536];
};

// Like any of RandomShape's, but from where to where the kernel forwards.
PacketShape ForwardableShape(Random* random) {
  PacketShape shape = RandomShape(random);
  shape.source = 0x0a010000 | (random->Below(65000) + 1);
  shape.destination = 0x0a020000 | (random->Below(65000) + 1);
  shape.ttl = static_cast<uint8_t>(random->Between(2, 255));
  return shape;
}

// The checksum of an IPv4 header has two zeros, and a router that only counts TTL down may choose either.
std::string OneZero(std::string packet) {
  if (WordAt(packet, 10) == 0xffff) SetWord(&packet, 10, 0);
  return packet;
}

std::string OneHopOn(std::string packet) {
  packet[8]--;
  SetWord(&packet, 10, 0);
  SetWord(&packet, 10, ~ReferenceSum(packet.substr(0, IpHeaderBytes(packet))) & 0xffff);
  return packet;
}

VirtioHeader HeaderFor(const std::string& packet, size_t segment_bytes) {
  VirtioHeader virtio{};
  virtio.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
  virtio.hdr_len = static_cast<uint16_t>(HeaderBytes(packet));
  virtio.csum_start = static_cast<uint16_t>(IpHeaderBytes(packet));
  virtio.csum_offset = static_cast<uint16_t>(ChecksumAt(packet) - IpHeaderBytes(packet));
  if (segment_bytes == 0) return virtio;
  virtio.gso_size = static_cast<uint16_t>(segment_bytes);
  virtio.gso_type = IsTcp(packet) ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_UDP_L4;
  return virtio;
}

std::vector<std::string> Cut(const VirtioHeader& virtio, const std::string& packet) {
  SegmentPlan plan;
  const uint8_t* const bytes = reinterpret_cast<const uint8_t*>(packet.data());
  std::vector<std::string> segments;
  if (PlanSegments(virtio, bytes, packet.size(), &plan) < 1) return segments;
  for (uint32_t index = 0; index < plan.count; index++) {
    uint8_t header[kMaxHeaderBytes];
    WriteSegmentHeaders(plan, bytes, bytes + plan.header_bytes, plan.segment_bytes, index, 1, header, 0);
    segments.push_back(std::string(reinterpret_cast<char*>(header), plan.header_bytes) +
                       packet.substr(plan.header_bytes + size_t{index} * plan.segment_bytes,
                                     plan.SegmentPayloadBytes(index)));
  }
  return segments;
}

void CuttingIsTheKernels(Random* random, Kernel* kernel, bool tcp) {
  for (int round = 0; round < 400; round++) {
    PacketShape shape = ForwardableShape(random);
    shape.tcp = tcp;
    shape.flags = static_cast<uint8_t>(random->Word());
    if (random->OneIn(4)) shape.ip_options = std::string(4 * random->Below(11), '\x01');
    const uint32_t most = static_cast<uint32_t>(65535 - HeaderBytes(MakePacket(shape, "")));
    const uint32_t length = random->OneIn(3) ? most - random->Below(3) : random->Between(100, 20000);
    std::string packet = MakePacket(shape, RandomBytes(random, length));
    CompletePartially(&packet);
    const uint32_t least = static_cast<uint32_t>((length + kMaxSegments - 1) / kMaxSegments);
    VirtioHeader virtio = HeaderFor(packet, random->OneIn(3) ? std::max(least, 1420u) : random->Between(least, length - 1));
    if (virtio.gso_size >= length) continue;
    if (tcp && (shape.flags & kTcpCwr) != 0 && random->OneIn(2)) virtio.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
    const std::vector<std::string> ours = Cut(virtio, OneHopOn(packet));
    if (!EXPECT(kernel->Write(virtio, packet) == 0)) return;
    if (!EXPECT(kernel->Read(ours.size()) == ours)) {
      fprintf(stderr, "round %d: %s, %u bytes by %u\n", round, tcp ? "TCP" : "UDP", length, virtio.gso_size);
      return;
    }
  }
}

void CompletingIsTheKernels(Random* random, Kernel* kernel) {
  for (int round = 0; round < 2000; round++) {
    const PacketShape shape = ForwardableShape(random);
    std::string packet = MakePacket(shape, RandomBytes(random, 2 + random->Below(1400)));
    if (round % 2 == 0) {
      // A payload with which the checksum comes out as zero.
      const size_t at = HeaderBytes(packet);
      SetWord(&packet, at, 0);
      Complete(&packet);
      SetWord(&packet, at, WordAt(packet, ChecksumAt(packet)));
    }
    CompletePartially(&packet);
    const VirtioHeader virtio = HeaderFor(packet, 0);
    std::string ours = OneHopOn(packet);
    EXPECT(CompleteChecksum(virtio, reinterpret_cast<uint8_t*>(&ours[0]), ours.size()) == 0);
    if (!EXPECT(kernel->Write(virtio, packet) == 0)) return;
    if (!EXPECT(OneZero(kernel->ReadOne()) == OneZero(ours))) return;
  }
}

// Flows that are merged by us and cut by the kernel come out as they came in.
void MergingIsInvisible(Random* random, Kernel* kernel, bool udp) {
  size_t merged = 0;
  for (int round = 0; round < 300; round++) {
    std::vector<PacketShape> shapes;
    std::vector<uint32_t> sizes;
    for (uint32_t flows = random->Between(1, 4); flows > 0; flows--) {
      shapes.push_back(ForwardableShape(random));
      shapes.back().flags = random->OneIn(4) ? kTcpAck | kTcpEce : kTcpAck;
      sizes.push_back(random->Between(1, 3000));
    }
    std::vector<std::string> sent;
    for (uint32_t count = random->Between(2, 60); count > 0; count--) {
      const uint32_t flow = random->Below(static_cast<uint32_t>(shapes.size()));
      PacketShape one = shapes[flow];
      if (random->OneIn(15)) one.flags |= static_cast<uint8_t>(random->OneIn(2) ? kTcpPsh : kTcpFin);
      if (random->OneIn(15)) one.flags |= kTcpCwr;
      const uint32_t length = random->OneIn(10) ? random->Between(1, sizes[flow]) : sizes[flow];
      sent.push_back(MakePacket(one, RandomBytes(random, length)));
      shapes[flow].sequence += length;
      shapes[flow].id++;
    }
    std::vector<std::string> memory = sent;
    Coalescer coalescer(sent.size());
    coalescer.Begin({true, udp, false});
    for (uint32_t index = 0; index < memory.size(); index++) {
      coalescer.Add(reinterpret_cast<uint8_t*>(&memory[index][0]), memory[index].size(), index);
    }
    const size_t writes = coalescer.Finish();
    for (size_t position = 0; position < writes; position++) {
      const CoalescedWrite write = coalescer.write(position);
      VirtioHeader virtio;
      memcpy(&virtio, write.vectors[0].iov_base, sizeof virtio);
      std::string packet;
      for (uint32_t vector = 1; vector < write.vector_count; vector++) {
        packet.append(static_cast<const char*>(write.vectors[vector].iov_base), write.vectors[vector].iov_len);
      }
      if (!EXPECT(kernel->Write(virtio, packet) == 0)) return;
      const std::vector<std::string> came = kernel->Read(write.count);
      for (uint32_t place = 0; place < write.count; place++) {
        if (!EXPECT(OneZero(came[place]) == OneZero(OneHopOn(sent[write.indices[place]])))) return;
      }
    }
    merged += sent.size() - writes;
  }
  EXPECT(merged > 2000);
}

}  // namespace

int main(int argc, char** argv) {
  Random random(argc, argv);
  Kernel kernel;
  PacketShape shape = ForwardableShape(&random);
  shape.tcp = false;
  shape.ttl = 64;
  std::string probe = MakePacket(shape, "to and fro");
  CompletePartially(&probe);
  const bool uso = kernel.Write(HeaderFor(probe, 5), probe) == 0 && kernel.Read(2).size() == 2;
  printf("UDP segmentation by the kernel: %s\n", uso ? "yes" : "no, not tested (needs 6.2)");
  CuttingIsTheKernels(&random, &kernel, true);
  if (uso) CuttingIsTheKernels(&random, &kernel, false);
  CompletingIsTheKernels(&random, &kernel);
  MergingIsInvisible(&random, &kernel, uso);
  EXPECT(kernel.ReadOne(0).empty());  // nothing came that was not looked at
  return Summary();
}
