// Packets merged in one batch, and what has to be true of the result: cut again by the reference of packets.h it gives back
// every packet bit for bit, and no flow is out of order.
#ifndef FLANNELETTE_TEST_MERGED_BATCH_H_
#define FLANNELETTE_TEST_MERGED_BATCH_H_

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "coalesce.h"
#include "packets.h"

namespace flannelette {

// One batch. The packets have memory of their own, each exactly as long as it is.
struct MergedBatch {
  MergedBatch(const std::vector<std::string>& packets, const CoalesceOptions& options)
      : sent(packets), coalescer(new Coalescer(packets.size() + 1)) {
    coalescer->Begin(options);
    for (uint32_t index = 0; index < sent.size(); index++) {
      memory.emplace_back(new uint8_t[sent[index].size()]);
      memcpy(memory.back().get(), sent[index].data(), sent[index].size());
      coalescer->Add(memory.back().get(), sent[index].size(), 1000 + index);
    }
    const size_t writes = coalescer->Finish();
    for (size_t position = 0; position < writes; position++) Take(coalescer->write(position));
  }

  void Take(const CoalescedWrite& write) {
    std::string bytes;
    for (uint32_t vector = 0; vector < write.vector_count; vector++) {
      bytes.append(static_cast<const char*>(write.vectors[vector].iov_base), write.vectors[vector].iov_len);
    }
    EXPECT(write.vectors[0].iov_len == kVirtioHeaderBytes && bytes.size() == write.bytes);
    EXPECT(write.vector_count <= Coalescer::kMaxVectors);
    VirtioHeader virtio;
    memcpy(&virtio, bytes.data(), sizeof virtio);
    headers.push_back(virtio);
    written.push_back(bytes.substr(kVirtioHeaderBytes));
    carried.emplace_back();
    for (uint32_t place = 0; place < write.count; place++) carried.back().push_back(write.indices[place] - 1000);
  }

  std::string Memory(size_t index) const {
    return std::string(reinterpret_cast<const char*>(memory[index].get()), sent[index].size());
  }

  std::vector<std::string> sent;
  std::vector<std::unique_ptr<uint8_t[]>> memory;
  std::unique_ptr<Coalescer> coalescer;
  std::vector<VirtioHeader> headers;
  std::vector<std::string> written;
  std::vector<std::vector<uint32_t>> carried;
};

// What the merged packets are when they are cut again, held against what was sent.
inline void ExpectInvisible(const MergedBatch& batch, bool same_ids = true) {
  std::vector<bool> seen(batch.sent.size());
  for (size_t position = 0; position < batch.written.size(); position++) {
    const std::string& bytes = batch.written[position];
    const std::vector<uint32_t>& carried = batch.carried[position];
    const VirtioHeader& virtio = batch.headers[position];
    for (const uint32_t index : carried) {
      EXPECT(!seen[index]);
      seen[index] = true;
    }
    if (carried.size() == 1) {
      const VirtioHeader zero{};
      EXPECT(memcmp(&virtio, &zero, sizeof zero) == 0 && bytes == batch.sent[carried[0]]);
      continue;
    }
    const bool cwr = IsTcp(bytes) && (ByteAt(bytes, 33) & 0x80) != 0;
    EXPECT(virtio.flags == VIRTIO_NET_HDR_F_NEEDS_CSUM && virtio.hdr_len == HeaderBytes(bytes));
    EXPECT(virtio.gso_type == ((IsTcp(bytes) ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_UDP_L4) |
                               (cwr ? VIRTIO_NET_HDR_GSO_ECN : 0)));
    EXPECT(virtio.csum_start == 20 && virtio.csum_offset == ChecksumAt(bytes) - 20u);
    EXPECT(bytes.size() <= 65535);
    std::string partial = bytes;
    CompletePartially(&partial);
    EXPECT(bytes == partial);
    const std::vector<std::string> again = ReferenceCut(bytes, virtio.gso_size);
    if (!EXPECT(again.size() == carried.size())) continue;
    for (size_t place = 0; place < again.size(); place++) {
      std::string segment = again[place];
      if (!same_ids && !IsTcp(bytes) && (WordAt(bytes, 6) & 0x4000) != 0) {
        SetWord(&segment, 4, WordAt(batch.sent[carried[place]], 4));
        Complete(&segment);
      }
      EXPECT(segment == batch.sent[carried[place]]);
    }
  }
  for (const bool was : seen) EXPECT(was);
}

// Whether the header agrees with what is there. What does not is dropped before anything is merged, and has no flow here.
inline bool IsWholeIpv4(const std::string& packet) {
  const size_t total = WordAt(packet, 2);
  return ByteAt(packet, 0) >> 4 == 4 && IpHeaderBytes(packet) >= 20 && total >= IpHeaderBytes(packet) &&
         total <= packet.size();
}

// The packets of each pair of hosts and ports come in the order in which they were sent; those without ports are kept in
// order with all of their pair of hosts.
inline void ExpectOrder(const MergedBatch& batch) {
  std::map<std::string, uint32_t> last_of_hosts;
  std::map<std::string, uint32_t> last_of_flow;
  std::map<std::string, uint32_t> last_without_ports;
  for (const std::vector<uint32_t>& carried : batch.carried) {
    for (const uint32_t index : carried) {
      const std::string& packet = batch.sent[index];
      if (packet.size() < 24 || !IsWholeIpv4(packet)) continue;
      const std::string hosts = packet.substr(9, 1) + packet.substr(12, 8);
      const bool fragment = (WordAt(packet, 6) & 0x3fff) != 0;
      const std::string flow = hosts + packet.substr(IpHeaderBytes(packet), 4);
      if (fragment) {
        EXPECT(last_of_hosts.count(hosts) == 0 || last_of_hosts[hosts] < index);
        last_without_ports[hosts] = index;
      } else {
        EXPECT(last_of_flow.count(flow) == 0 || last_of_flow[flow] < index);
        EXPECT(last_without_ports.count(hosts) == 0 || last_without_ports[hosts] < index);
        last_of_flow[flow] = index;
      }
      if (last_of_hosts.count(hosts) == 0 || last_of_hosts[hosts] < index) last_of_hosts[hosts] = index;
    }
  }
}

}  // namespace flannelette

#endif
