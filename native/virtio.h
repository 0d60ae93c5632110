// The header that comes before every packet of a TUN device opened with IFF_VNET_HDR (virtio 1.2, section 5.1.6; the
// kernel's include/uapi/linux/virtio_net.h): what the kernel, or this program, left for the other side to do. Its 16-bit
// fields are in host byte order. A zero header is a finished packet.
#ifndef FLANNELETTE_VIRTIO_H_
#define FLANNELETTE_VIRTIO_H_

#include <cstddef>
#include <cstdint>

// The kernel's header file is no C++ (it names a member `class`), and older ones lack the last of these.
#define VIRTIO_NET_HDR_F_NEEDS_CSUM 1
#define VIRTIO_NET_HDR_GSO_NONE 0
#define VIRTIO_NET_HDR_GSO_TCPV4 1
#define VIRTIO_NET_HDR_GSO_UDP_L4 5  // one UDP datagram a segment (USO, kernel 6.2)
#define VIRTIO_NET_HDR_GSO_ECN 0x80

namespace flannelette {

struct VirtioHeader {
  uint8_t flags;
  uint8_t gso_type;
  uint16_t hdr_len;      // how much of the packet the kernel keeps in one piece; not to be relied on
  uint16_t gso_size;     // payload bytes of each segment
  uint16_t csum_start;   // where summing begins
  uint16_t csum_offset;  // where the checksum goes, counted from there
};

constexpr size_t kVirtioHeaderBytes = sizeof(VirtioHeader);
static_assert(kVirtioHeaderBytes == 10, "the kernel's default (TUNSETVNETHDRSZ)");

// The kind of segmentation without the bit that says the first segment carries CWR.
constexpr uint8_t GsoKind(const VirtioHeader& header) {
  return static_cast<uint8_t>(header.gso_type & ~VIRTIO_NET_HDR_GSO_ECN);
}

constexpr bool IsSuperPacket(const VirtioHeader& header) { return GsoKind(header) != VIRTIO_NET_HDR_GSO_NONE; }

constexpr bool NeedsChecksum(const VirtioHeader& header) { return (header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) != 0; }

}  // namespace flannelette

#endif
