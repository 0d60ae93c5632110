// Times what native/ does to packets, without any system call: prints a line of JSON for each subject, with nanoseconds
// and allocated bytes for each unit of work. With words as arguments, only for subjects whose names contain one of them, in
// any case. `npm run bench:micro` compiles and runs it.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <new>
#include <vector>

#include "checksum.h"
#include "coalesce.h"
#include "inner.h"
#include "segment.h"
#include "virtio.h"

namespace {

size_t allocated_bytes = 0;

}  // namespace

void* operator new(size_t bytes) {
  allocated_bytes += bytes;
  void* memory = malloc(bytes);
  if (memory == nullptr) abort();
  return memory;
}

void* operator new[](size_t bytes) { return operator new(bytes); }
void operator delete(void* memory) noexcept { free(memory); }
void operator delete(void* memory, size_t) noexcept { free(memory); }
void operator delete[](void* memory) noexcept { free(memory); }
void operator delete[](void* memory, size_t) noexcept { free(memory); }

namespace {

using flannelette::Coalescer;
using flannelette::SegmentPlan;
using flannelette::VirtioHeader;

constexpr uint32_t kTcpPayloadBytes = 1432;  // of an MTU of 1,472
constexpr uint32_t kTcpHeaders = flannelette::kIpHeaderBytes + flannelette::kTcpHeaderBytes;
constexpr uint32_t kUdpHeaders = flannelette::kIpHeaderBytes + flannelette::kUdpHeaderBytes;
constexpr uint32_t kTcpSegments = 45;  // what a device hands over at once
constexpr uint32_t kUdpSegments = 64;
constexpr double kTrySeconds = 0.05;
constexpr int kTries = 9;

// Where results go, so that no compiler may leave the work out.
volatile uint64_t sink;

std::vector<const char*> wanted_words;

bool IsWanted(const char* name) {
  if (wanted_words.empty()) return true;
  return std::any_of(wanted_words.begin(), wanted_words.end(),
                     [name](const char* word) { return strcasestr(name, word) != nullptr; });
}

double Now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

// Runs `work`, which does `units` of it, often enough to tell how long one takes: the median of several tries, and how
// far the worst of them lies from it.
template <typename Work>
void Measure(const char* name, uint32_t units, const Work& work) {
  if (!IsWanted(name)) return;
  work();
  const size_t before = allocated_bytes;
  work();
  const double bytes = static_cast<double>(allocated_bytes - before) / units;
  double tries[kTries];
  for (double& result : tries) {
    uint64_t calls = 0;
    const double start = Now();
    double now = start;
    for (; now - start < kTrySeconds; now = Now()) {
      for (int call = 0; call < 16; call++) work();
      calls += 16;
    }
    result = (now - start) / static_cast<double>(calls) / units;
  }
  std::sort(tries, tries + kTries);
  const double median = tries[kTries / 2];
  const double margin = std::max(tries[kTries - 1] - median, median - tries[0]) / median;
  printf("{\"name\":\"%s\",\"nanoseconds\":%.3f,\"marginPercent\":%.2f,\"bytes\":%.1f}\n", name, median * 1e9,
         margin * 100, bytes);
}

void PutWord(uint8_t* at, uint32_t value) {
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}

// A super-packet as a device hands it over, with the virtio header that says how it is to be cut.
struct SuperPacket {
  std::vector<uint8_t> bytes;
  VirtioHeader virtio = {};
};

SuperPacket MakeSuperPacket(bool tcp, uint8_t flow, uint32_t segments, uint32_t segment_bytes) {
  const uint32_t headers = tcp ? kTcpHeaders : kUdpHeaders;
  SuperPacket packet;
  packet.bytes.assign(headers + segments * segment_bytes, 0x5a);
  uint8_t* ip = packet.bytes.data();
  std::fill(ip, ip + headers, uint8_t{0});
  ip[0] = 0x45;
  PutWord(ip + flannelette::kIpTotalLength, static_cast<uint32_t>(packet.bytes.size()));
  PutWord(ip + flannelette::kIpFragment, 0x4000);
  ip[flannelette::kIpTtl] = 63;
  ip[flannelette::kIpProtocol] = tcp ? flannelette::kTcp : flannelette::kUdp;
  const uint8_t addresses[] = {10, 5, 1, 2, 10, 5, 2, 2};
  std::copy(addresses, addresses + sizeof addresses, ip + flannelette::kIpSource);
  uint8_t* transport = ip + flannelette::kIpHeaderBytes;
  PutWord(transport, 40000u + flow);
  PutWord(transport + 2, 5201);
  if (tcp) {
    transport[flannelette::kTcpDataOffset] = 5 << 4;
    transport[flannelette::kTcpFlags] = 0x10;
    PutWord(transport + flannelette::kTcpWindow, 500);
  } else {
    PutWord(transport + flannelette::kUdpLength, flannelette::kUdpHeaderBytes + segments * segment_bytes);
  }
  packet.virtio.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
  packet.virtio.gso_type = tcp ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_UDP_L4;
  packet.virtio.hdr_len = static_cast<uint16_t>(headers);
  packet.virtio.gso_size = static_cast<uint16_t>(segment_bytes);
  packet.virtio.csum_start = flannelette::kIpHeaderBytes;
  packet.virtio.csum_offset = tcp ? flannelette::kTcpChecksum : flannelette::kUdpChecksum;
  return packet;
}

SegmentPlan PlanOf(const SuperPacket& packet) {
  SegmentPlan plan;
  if (flannelette::PlanSegments(packet.virtio, packet.bytes.data(), packet.bytes.size(), &plan) < 1) {
    fprintf(stderr, "micro: a packet of its own making cannot be cut\n");
    exit(1);
  }
  return plan;
}

// The packets that a super-packet is cut into, one behind the other.
std::vector<uint8_t> Cut(const SuperPacket& packet) {
  const SegmentPlan plan = PlanOf(packet);
  const size_t stride = plan.header_bytes + plan.segment_bytes;
  std::vector<uint8_t> out(plan.count * stride);
  const uint8_t* payload = packet.bytes.data() + plan.header_bytes;
  flannelette::WriteSegmentHeaders(plan, packet.bytes.data(), payload, plan.segment_bytes, 0, plan.count, out.data(),
                                   stride);
  for (uint32_t index = 0; index < plan.count; index++) {
    uint8_t* to = out.data() + index * stride + plan.header_bytes;
    std::copy_n(payload + index * plan.segment_bytes, plan.segment_bytes, to);
  }
  return out;
}

void MeasureCutting(const char* name, const SuperPacket& packet, uint32_t segments) {
  std::vector<uint8_t> headers(segments * flannelette::kMaxHeaderBytes);
  Measure(name, segments, [&] {
    const SegmentPlan plan = PlanOf(packet);
    flannelette::WriteSegmentHeaders(plan, packet.bytes.data(), packet.bytes.data() + plan.header_bytes,
                                     plan.segment_bytes, 0, plan.count, headers.data(), flannelette::kMaxHeaderBytes);
    sink = headers[0];
  });
}

// Merges packets of several flows that came in turn.
void MeasureMerging(const char* name, bool tcp, uint8_t flows, uint32_t segments, uint32_t segment_bytes) {
  std::vector<std::vector<uint8_t>> packets;
  for (uint8_t flow = 0; flow < flows; flow++) {
    packets.push_back(Cut(MakeSuperPacket(tcp, flow, segments, segment_bytes)));
  }
  const size_t stride = packets[0].size() / segments;
  Coalescer coalescer(flows * segments);
  flannelette::CoalesceOptions options;
  options.udp = true;
  options.udp_constant_ids = true;
  size_t writes = 0;
  Measure(name, flows * segments, [&] {
    coalescer.Begin(options);
    uint32_t number = 0;
    for (uint32_t segment = 0; segment < segments; segment++) {
      for (auto& packet : packets) coalescer.Add(packet.data() + segment * stride, stride, number++);
    }
    writes = coalescer.Finish();
    // The packets are merged again the next time.
    for (size_t position = 0; position < writes; position++) coalescer.Undo(position);
  });
  if (writes > 2u * flows) {
    fprintf(stderr, "micro: %s: packets were not merged: %zu writes of %u\n", name, writes, flows * segments);
    exit(1);
  }
}

// Which flow a packet is of, and where its headers end.
void MeasureClassification(const char* name, bool tcp) {
  const SuperPacket packet = MakeSuperPacket(tcp, 0, 1, kTcpPayloadBytes);
  Measure(name, 1, [&] {
    flannelette::InnerHeaders headers;
    sink = flannelette::ParseInner(packet.bytes.data(), packet.bytes.size(), &headers) ? headers.header_bytes() : 0;
  });
}

void MeasureChecksum(const char* name, size_t bytes) {
  const std::vector<uint8_t> data(bytes, 0x5a);
  Measure(name, 1, [&] { sink = flannelette::FinishSum(flannelette::SumBytes(data.data(), data.size(), 0)); });
}

}  // namespace

int main(int argc, char** argv) {
  wanted_words.assign(argv + 1, argv + argc);
  MeasureClassification("classify TCP: flow and header lengths, native", true);
  MeasureClassification("classify UDP: flow and header lengths, native", false);
  MeasureChecksum("checksum of 1,400 bytes, native", 1400);
  MeasureCutting("cut TCP, 45 segments of 1,432 bytes", MakeSuperPacket(true, 0, kTcpSegments, kTcpPayloadBytes),
                 kTcpSegments);
  MeasureCutting("cut UDP, 64 segments of 64 bytes", MakeSuperPacket(false, 0, kUdpSegments, 64), kUdpSegments);
  MeasureMerging("merge TCP, one flow, 1,432 bytes", true, 1, kTcpSegments, kTcpPayloadBytes);
  MeasureMerging("merge TCP, 8 flows in turn", true, 8, kTcpSegments, kTcpPayloadBytes);
  MeasureMerging("merge UDP, one flow, 64 bytes", false, 1, kUdpSegments, 64);
  return 0;
}
