// Merging: neighbouring segments of a flow become one GSO packet for the device, as the kernel's GRO would make one of
// them (inet_gro_receive, tcp_gro_receive, udp_gro_receive). It stays invisible: a merged packet holds exactly what its
// segmentation (by the kernel, or by segment.h) gives back, bit for bit; whatever would come back differently, or may not
// be merged by a router, passes by as it is.
//
// Theory of operation. In: the packets of one batch in the order of their arrival. Out: writes, each with a virtio header,
// vectors for writev(2), and the caller's indices of the packets that it carries. State, for one batch only: a small
// table of flows, each place of which knows the last write of one flow. A packet joins that write or begins one of its
// own, and is then the flow's last; writes go out in the order in which they were begun. Order within a flow is thus kept
// by construction: a write only ever grows while nothing later of its flow exists. A flow that finds another in its place
// of the table takes the place over, so that the other's next packet begins a new write: less merging, never reordering.
// Packets whose ports are not to be seen (fragments, truncated headers) end the merges of their pair of hosts.
//
// Checksums are verified only once there is something to merge with, and before it is merged: a merged packet carries a
// partial checksum, and the kernel believes it.
//
// A trip: five packets come, A1 A2 B1 A3 B2, of two TCP flows, 1,448 bytes of payload each, A3 with PSH. Writes: A1+A2+A3,
// whose first vector is the virtio header {TCPV4, gso_size 1,448}, the second A1 with a rewritten header (total length,
// PSH, checksums), then the payloads of A2 and A3; and B1+B2. A sixth, A4, would begin a write of its own, for PSH ended A's.
//
// Nothing is allocated after construction.
#ifndef FLANNELETTE_COALESCE_H_
#define FLANNELETTE_COALESCE_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include <sys/uio.h>

#include "inner.h"
#include "virtio.h"

namespace flannelette {

struct CoalesceOptions {
  bool tcp = true;
  bool udp = false;  // only for a device with USO (TUN_F_USO4)
  // The kernel's segmentation counts ids up, so ids that do not follow one another are not merged. Where this is set, a
  // run of UDP datagrams with DF and the same id is (unconnected sockets send id 0): their ids, which mean nothing to
  // anybody (RFC 6864, section 4.1), would then differ after the kernel cuts the run again on its way to the pod.
  bool udp_constant_ids = false;
};

struct CoalescedWrite {
  iovec* vectors;  // the first is the virtio header, the second begins with an IPv4 header; at most kMaxVectors
  uint32_t vector_count;
  uint32_t bytes;           // of all vectors: what writev(2) returns
  const uint32_t* indices;  // the caller's, of the packets carried, in their order
  uint32_t count;           // packets carried; with 1 the packet is untouched and its virtio header zero
};

class Coalescer {
 public:
  // Below IOV_MAX.
  static constexpr uint32_t kMaxVectors = 1000;
  // The kernel's UDP_MAX_SEGMENTS before 6.9, which doubled it.
  static constexpr uint32_t kMaxUdpSegments = 64;

  // `capacity` is the most packets of a batch.
  explicit Coalescer(size_t capacity);
  ~Coalescer();

  // A batch: Begin, Add for each packet (at most `capacity`), Finish, which returns the number of writes; write() gives
  // them until the next Begin.
  void Begin(const CoalesceOptions& options);
  // `packet` has to stay where it is until the writes are done; the header of one that others join is rewritten by Finish.
  void Add(uint8_t* packet, size_t length, uint32_t index);
  size_t Finish();
  CoalescedWrite write(size_t position) const;

  // Takes back what Finish did to the header of a write's first packet, so that its packets can be written one by one
  // should the kernel refuse the merged one.
  void Undo(size_t position) const;

 private:
  struct Packet;
  struct Write;
  struct Flow;

  Flow* Find(const InnerHeaders& headers, bool* known);
  void EndMergesBetween(const InnerHeaders& headers);
  Write* BeginWrite(uint32_t number);
  void Open(Write* write, const InnerHeaders& headers);
  bool Join(Write* write, uint32_t number, const InnerHeaders& headers);
  bool HasVerified(Write* write);
  void Rewrite(Write* write, VirtioHeader* virtio);

  CoalesceOptions options_;
  uint32_t batch_ = 0;  // what a place of the table is compared with, so that it need not be cleared
  size_t packet_count_ = 0;
  size_t write_count_ = 0;
  const std::unique_ptr<Packet[]> packets_;
  const std::unique_ptr<Write[]> writes_;
  const std::unique_ptr<Flow[]> flows_;
  const std::unique_ptr<VirtioHeader[]> headers_;
  const std::unique_ptr<iovec[]> vectors_;
  const std::unique_ptr<uint32_t[]> indices_;
};

}  // namespace flannelette

#endif
