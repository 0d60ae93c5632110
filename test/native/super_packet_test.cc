// Batches with offloads: what comes out of the device as super-packets arrives at the peer as the packets that they are on
// the wire, and what a peer sends reaches the device as writes that the kernel's segmentation turns into the same again.
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "batch_bench.h"
#include "decap_batch.h"
#include "encap_batch.h"
#include "packets.h"
#include "virtio.h"

using namespace flannelette;

namespace {

// What the device refuses with EINVAL, and how often it did.
enum class Refuses { kNothing, kMergedTcp, kMergedUdp, kEverything };
Refuses device_refuses = Refuses::kNothing;
int refusals = 0;

bool IsRefused(const iovec& first) {
  if (first.iov_len != kVirtioHeaderBytes) return false;
  const uint8_t kind = GsoKind(*static_cast<const VirtioHeader*>(first.iov_base));
  switch (device_refuses) {
    case Refuses::kNothing: return false;
    case Refuses::kMergedTcp: return kind == VIRTIO_NET_HDR_GSO_TCPV4;
    case Refuses::kMergedUdp: return kind == VIRTIO_NET_HDR_GSO_UDP_L4;
    case Refuses::kEverything: return true;
  }
  return false;
}

}  // namespace

extern "C" ssize_t writev(int fd, const iovec* vectors, int count) {
  if (!IsRefused(vectors[0])) return syscall(SYS_writev, fd, vectors, count);
  refusals++;
  errno = EINVAL;
  return -1;
}

namespace {

constexpr uint32_t kAll =
    kTunVnet | kTunTso | kTunUso | kUdpSegment | kUdpGro | kSendmmsg | kRecvmmsg;

std::string WithHeader(const VirtioHeader& virtio, const std::string& packet) {
  return std::string(reinterpret_cast<const char*>(&virtio), kVirtioHeaderBytes) + packet;
}

// A packet as the device hands it over, and the packets that it is on the wire.
struct FromDevice {
  std::string read;
  std::vector<std::string> wire;
};

FromDevice Plain(const PacketShape& shape, const std::string& payload, bool partial) {
  const std::string packet = MakePacket(shape, payload);
  VirtioHeader virtio{};
  if (!partial) return {WithHeader(virtio, packet), {packet}};
  std::string unfinished = packet;
  CompletePartially(&unfinished);
  virtio.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
  virtio.csum_start = static_cast<uint16_t>(IpHeaderBytes(packet));
  virtio.csum_offset = shape.tcp ? 16 : 6;
  std::string finished = packet;
  // Like the kernel, completing writes 0xffff for 0 whatever the protocol.
  if (WordAt(finished, ChecksumAt(finished)) == 0) SetWord(&finished, ChecksumAt(finished), 0xffff);
  return {WithHeader(virtio, unfinished), {finished}};
}

FromDevice Super(const PacketShape& shape, const std::string& payload, uint16_t segment_bytes) {
  std::string packet = MakePacket(shape, payload);
  VirtioHeader virtio{};
  virtio.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
  virtio.gso_type = shape.tcp ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_UDP_L4;
  virtio.gso_size = segment_bytes;
  virtio.csum_start = static_cast<uint16_t>(IpHeaderBytes(packet));
  virtio.csum_offset = shape.tcp ? 16 : 6;
  const std::vector<std::string> wire = ReferenceCut(packet, segment_bytes);
  CompletePartially(&packet);
  return {WithHeader(virtio, packet), wire};
}

// Mostly runs of one flow's super-packets, whose shape the next read is guessed from, and everything that spoils the guess.
FromDevice RandomFromDevice(Random* random, PacketShape* flow, uint16_t* segment_bytes) {
  if (random->OneIn(6)) *flow = RandomShape(random);
  if (random->OneIn(6)) *segment_bytes = static_cast<uint16_t>(random->Between(400, random->OneIn(2) ? 600 : 9000));
  if (random->OneIn(4)) return Plain(*flow, RandomBytes(random, random->Below(2000)), random->OneIn(2));
  const uint32_t most = !random->OneIn(2) ? 5000 : *segment_bytes < 1400 ? 32000 : 65000;
  return Super(*flow, RandomBytes(random, 1 + random->Below(most)), *segment_bytes);
}

std::string CutOut(Bench<EncapBatch>* bench, size_t index, int32_t segment) {
  const int length = bench->batch->Cut(index, segment, kMaxPacketBytes);
  return std::string(reinterpret_cast<char*>(bench->arena.data()) + bench->arena.size() - kMaxPacketBytes,
                     static_cast<size_t>(length));
}

// Of a packet that only the beginning is wanted of, the rest stays unwritten.
bool BeginsLike(Bench<EncapBatch>* bench, size_t index, int32_t segment, const std::string& whole, size_t kept_bytes) {
  uint8_t* const out = bench->arena.data() + bench->arena.size() - kMaxPacketBytes;
  memset(out, 0xee, whole.size());
  const int length = bench->batch->Cut(index, segment, kept_bytes);
  const size_t kept = std::min(kept_bytes, whole.size());
  const bool rest_untouched =
      std::all_of(out + std::max<size_t>(kept, kMaxHeaderBytes), out + whole.size(), [](uint8_t one) { return one == 0xee; });
  return static_cast<size_t>(length) == whole.size() && memcmp(out, whole.data(), kept) == 0 && rest_untouched;
}

std::string Whole(const std::string& read) { return read.substr(kVirtioHeaderBytes); }

void WhatTheDeviceHandsOverArrivesCut(Random* random) {
  for (uint32_t rungs : {kAll, kAll & ~static_cast<uint32_t>(kUdpSegment)}) {
    Bench<EncapBatch> bench(rungs);
    PacketShape flow;
    uint16_t segment_bytes = 1432;
    for (int round = 0; round < 150; round++) {
      std::vector<FromDevice> packets;
      size_t bytes = 0;
      // No more than a socket's buffer takes without privileges.
      while (packets.size() < 4 && bytes < 32000) {
        packets.push_back(RandomFromDevice(random, &flow, &segment_bytes));
        bytes += packets.back().read.size();
        bench.FromHost(packets.back().read);
      }
      std::vector<std::string> expected;
      for (size_t done = 0; done < packets.size();) {
        const int received = bench.batch->Receive();
        if (!EXPECT(received > 0)) return;
        const size_t count = static_cast<size_t>(received);
        for (size_t index = 0; index < count; index++) {
          const std::vector<std::string>& wire = packets[done + index].wire;
          EXPECT(bench.Field(index, kSegments) == static_cast<int32_t>(wire.size()));
          bench.Field(index, kVerdict) = 4;  // dropped, so far
          EXPECT(CutOut(&bench, index, 0) == wire[0]);
          bench.Forward(index, kLoopback, PortOf(bench.peer));
          // Who watches sees it before it is sent,
          EXPECT(CutOut(&bench, index, static_cast<int32_t>(wire.size()) - 1) == wire.back());
          EXPECT(wire.size() == 1 || CutOut(&bench, index, EncapBatch::kWhole) == Whole(packets[done + index].read));
        }
        bench.batch->Transmit(count);
        for (size_t index = 0; index < count; index++) {
          const std::vector<std::string>& wire = packets[done + index].wire;
          EXPECT(bench.Field(index, kError) == 0);
          EXPECT(bench.Field(index, kSentPackets) == static_cast<int32_t>(wire.size()));
          const int32_t segment = static_cast<int32_t>(random->Below(static_cast<uint32_t>(wire.size())));
          // and what the kernel refused, after it.
          EXPECT(wire.size() == 1 || CutOut(&bench, index, EncapBatch::kWhole) == Whole(packets[done + index].read));
          EXPECT(CutOut(&bench, index, segment) == wire[segment]);
          EXPECT(BeginsLike(&bench, index, segment, wire[segment], random->Below(2000)));
          const std::string whole = Whole(packets[done + index].read);
          EXPECT(wire.size() == 1 || BeginsLike(&bench, index, EncapBatch::kWhole, whole, random->Below(2000)));
          expected.insert(expected.end(), wire.begin(), wire.end());
        }
        done += count;
      }
      EXPECT(bench.AtPeer() == expected);
    }
    EXPECT(bench.batch->offloads().pending() == 0);
  }
}

void WhatNoVirtioHeaderFitsIsMarked() {
  Bench<EncapBatch> bench(kAll);
  FromDevice udp_as_tcp = Super(PacketShape{}, std::string(3000, 'x'), 1000);
  udp_as_tcp.read[1] = VIRTIO_NET_HDR_GSO_UDP_L4;
  FromDevice outside = Plain(PacketShape{}, "payload", true);
  outside.read[8] = '\xff';  // csum_offset
  bench.FromHost(udp_as_tcp.read);
  bench.FromHost(outside.read);
  EXPECT(bench.batch->Receive() == 2);
  EXPECT(bench.Field(0, kSegments) == 0 && bench.Field(1, kSegments) == 0);
}

// All that the device was given, cut as the kernel would, by flow.
std::map<std::string, std::vector<std::string>> AtDevice(Bench<DecapBatch>* bench, size_t* writes) {
  std::map<std::string, std::vector<std::string>> flows;
  for (std::string one = Receive(bench->device[1]); one != "nothing"; one = Receive(bench->device[1])) {
    ++*writes;
    VirtioHeader virtio;
    memcpy(&virtio, one.data(), kVirtioHeaderBytes);
    const std::string packet = one.substr(kVirtioHeaderBytes);
    const std::vector<std::string> cut =
        IsSuperPacket(virtio) ? ReferenceCut(packet, virtio.gso_size) : std::vector<std::string>{packet};
    std::vector<std::string>& flow = flows[packet.substr(12, 12)];
    flow.insert(flow.end(), cut.begin(), cut.end());
  }
  return flows;
}

void WhatAPeerSendsReachesTheDeviceMergedAndWhole(Random* random) {
  for (uint32_t rungs : {kAll, kAll & ~static_cast<uint32_t>(kUdpGro | kRecvmmsg)}) {
    // Few descriptors, so that trains are taken apart over several calls.
    Bench<DecapBatch> bench(rungs, 24);
    Bench<EncapBatch> peer(kAll);
    PacketShape flows[3] = {RandomShape(random), RandomShape(random), RandomShape(random)};
    size_t sent = 0;
    size_t writes = 0;
    for (int round = 0; round < 150; round++) {
      std::map<std::string, std::vector<std::string>> expected;
      for (size_t count = 0; count < 3; count++) {
        PacketShape& flow = flows[random->Below(3)];
        const std::string payload = RandomBytes(random, 1 + random->Below(20000));
        const FromDevice packet = Super(flow, payload, static_cast<uint16_t>(random->Between(900, 1432)));
        flow.sequence += static_cast<uint32_t>(payload.size());
        flow.id = static_cast<uint16_t>(flow.id + packet.wire.size());
        peer.FromHost(packet.read);
        std::vector<std::string>& wire = expected[packet.wire[0].substr(12, 12)];
        wire.insert(wire.end(), packet.wire.begin(), packet.wire.end());
        sent += packet.wire.size();
      }
      if (!EXPECT(peer.batch->Receive() == 3)) return;
      for (size_t index = 0; index < 3; index++) peer.Forward(index, kLoopback, PortOf(bench.socket));
      peer.batch->Transmit(3);
      size_t left = 0;
      for (const auto& flow : expected) left += flow.second.size();
      std::map<std::string, std::vector<std::string>> arrived;
      while (left > 0) {
        const int received = bench.batch->Receive();
        if (!EXPECT(received > 0)) return;
        const size_t count = static_cast<size_t>(received);
        for (size_t index = 0; index < count; index++) bench.Forward(index, 0, 0);
        bench.batch->Transmit(count);
        double expected_writes = 0;
        for (size_t index = 0; index < count; index++) {
          EXPECT(bench.Field(index, kError) == 0);
          EXPECT(bench.Field(index, kMerged) >= 1);
          expected_writes += 1.0 / bench.Field(index, kMerged);
        }
        left -= count;
        const size_t earlier_writes = writes;
        for (const auto& flow : AtDevice(&bench, &writes)) {
          std::vector<std::string>& all = arrived[flow.first];
          all.insert(all.end(), flow.second.begin(), flow.second.end());
        }
        EXPECT(writes - earlier_writes == static_cast<size_t>(std::lround(expected_writes)));
      }
      EXPECT(arrived == expected);
    }
    EXPECT(writes < sent);
    EXPECT(bench.batch->offloads().pending() == 0);
  }
}

// A node whose peer sends runs of small packets of one flow, and whose device may refuse them.
class RefusedRuns {
 public:
  explicit RefusedRuns(bool tcp) { shape_.tcp = tcp; }

  // Four packets of the flow go from the peer to the device; `error` is what becomes of each.
  void Carry(int error = 0) {
    std::vector<std::string> sent;
    for (int count = 0; count < 4; count++) {
      sent.push_back(MakePacket(shape_, std::string(100, 'x')));
      shape_.sequence += 100;
      shape_.id++;
      bench_.FromPeer(sent.back());
    }
    std::vector<std::string> arrived;
    for (size_t left = sent.size(); left > 0;) {
      const int received = bench_.batch->Receive();
      if (!EXPECT(received > 0)) return;
      const size_t count = static_cast<size_t>(received);
      for (size_t index = 0; index < count; index++) bench_.Forward(index, 0, 0);
      bench_.batch->Transmit(count);
      for (size_t index = 0; index < count; index++) EXPECT(bench_.Field(index, kError) == error);
      merged_ = bench_.Field(0, kMerged) > 1;
      left -= count;
      size_t writes = 0;
      for (const auto& flow : AtDevice(&bench_, &writes)) {
        arrived.insert(arrived.end(), flow.second.begin(), flow.second.end());
      }
    }
    EXPECT(arrived == (error == 0 ? sent : std::vector<std::string>{}));
  }

  bool merged() const { return merged_; }
  Offloads& offloads() { return bench_.batch->offloads(); }

 private:
  Bench<DecapBatch> bench_{kAll};
  PacketShape shape_;
  bool merged_ = false;  // the last batch, by a write that the device took
};

void WhatTheDeviceRefusesMergedIsWrittenSinglyAndInTheEndNotMerged() {
  for (const bool tcp : {true, false}) {
    RefusedRuns runs(tcp);
    device_refuses = tcp ? Refuses::kMergedTcp : Refuses::kMergedUdp;
    refusals = 0;
    while (refusals < 8) {
      EXPECT(runs.offloads().pending() == 0);
      runs.Carry();
    }
    if (!EXPECT(runs.offloads().pending() == 1)) return;
    const StepDown step = runs.offloads().Take();
    EXPECT(step.offload == (tcp ? kTunTso : kTunUso) && step.error == EINVAL && step.address == 0);
    EXPECT(runs.offloads().Has(kTunTso) == !tcp && runs.offloads().Has(kTunUso) == tcp);
    runs.Carry();
    EXPECT(refusals == 8 && runs.offloads().pending() == 0);
  }
  device_refuses = Refuses::kNothing;
}

void ADeviceThatRefusesNowAndThenKeepsItsOffload() {
  RefusedRuns runs(true);
  refusals = 0;
  for (const int until : {7, 14}) {
    device_refuses = Refuses::kMergedTcp;
    while (refusals < until) runs.Carry();
    device_refuses = Refuses::kNothing;
    do runs.Carry();
    while (!runs.merged());
  }
  EXPECT(runs.offloads().pending() == 0 && runs.offloads().Has(kTunTso));
}

void WhatTheDeviceRefusesSinglyAsWellIsNoReasonToMergeLess() {
  RefusedRuns runs(true);
  device_refuses = Refuses::kEverything;
  for (int round = 0; round < 20; round++) runs.Carry(EINVAL);
  device_refuses = Refuses::kNothing;
  EXPECT(runs.offloads().pending() == 0 && runs.offloads().Has(kTunTso));
  runs.Carry();
}

}  // namespace

int main(int argc, char** argv) {
  Random random(argc, argv);
  WhatTheDeviceHandsOverArrivesCut(&random);
  WhatNoVirtioHeaderFitsIsMarked();
  WhatAPeerSendsReachesTheDeviceMergedAndWhole(&random);
  WhatTheDeviceRefusesMergedIsWrittenSinglyAndInTheEndNotMerged();
  ADeviceThatRefusesNowAndThenKeepsItsOffload();
  WhatTheDeviceRefusesSinglyAsWellIsNoReasonToMergeLess();
  return Summary();
}
