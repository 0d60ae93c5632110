// The header that comes before every packet of a TUN device opened with IFF_VNET_HDR (virtio 1.2, section 5.1.6; the
// kernel's include/uapi/linux/virtio_net.h): what the kernel, or this program, left for the other side to do. Its 16-bit
// fields are in host byte order. A zero header is a finished packet.
#ifndef FLANNELETTE_VIRTIO_H_
#define FLANNELETTE_VIRTIO_H_

#include <cstddef>
#include <cstdint>

#include <linux/virtio_net.h>

// One UDP datagram a segment (USO, kernel 6.2); older headers do not name it.
#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

namespace flannelette {

using VirtioHeader = virtio_net_hdr;
static_assert(sizeof(VirtioHeader) == 10, "the kernel's default header size, TUNSETVNETHDRSZ");

constexpr size_t kVirtioHeaderBytes = sizeof(VirtioHeader);

// The kind of segmentation without the bit that says the first segment carries CWR.
constexpr uint8_t GsoKind(const VirtioHeader& header) {
  return static_cast<uint8_t>(header.gso_type & ~VIRTIO_NET_HDR_GSO_ECN);
}

constexpr bool IsSuperPacket(const VirtioHeader& header) { return GsoKind(header) != VIRTIO_NET_HDR_GSO_NONE; }

constexpr bool NeedsChecksum(const VirtioHeader& header) { return (header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) != 0; }

}  // namespace flannelette

#endif
