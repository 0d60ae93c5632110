// The TUN device (Documentation/networking/tuntap.rst in the kernel's tree): IPv4 packets without packet information,
// one a read and one a write. Results below zero are negated errno values.
#ifndef FLANNELETTE_TUN_H_
#define FLANNELETTE_TUN_H_

#include <cstddef>
#include <cstdint>

#include <sys/uio.h>

namespace flannelette {

constexpr size_t kInterfaceNameBytes = 16;  // IFNAMSIZ: the terminating zero included

// Opens one queue of a device and makes the device when it does not exist; `name` may hold one %d, which the kernel
// replaces by the first free number. Non-blocking, closed on exec. With `virtio` every packet comes and goes behind a
// virtio header (virtio.h), which is for the whole device: the last one to open a queue decides. -EBUSY: another process
// holds the device. -EINVAL: the device exists in another shape (of one queue, or of several), or the kernel knows no
// virtio headers or does not let their size be set.
int OpenTun(const char* name, bool multi_queue, bool virtio);

// What the kernel may leave to the reader of the device; the device keeps it when it is closed. Without checksums there is
// no segmentation. 0; -EINVAL: this kernel has not all of it, and nothing was changed.
int SetTunOffloads(int fd, bool checksum, bool tso, bool uso);

// Whether the kernel leaves checksums, and with them the cutting, to the reader of the device: 1 or 0.
int TunLeavesChecksums(int fd);

// The device's present name. `name` has room for kInterfaceNameBytes.
int TunName(int fd, char* name);

// How a queue was opened.
struct QueueShape {
  bool multi_queue;
  bool virtio;
  bool detached;  // the device has the queue no more: what would go there goes to its others
};

// Of a queue that another process may have opened, and the name of its device. -EBADFD: the device was deleted. Any other
// error: this is no queue, or not one that packets of ours pass.
int QueueShapeOf(int fd, QueueShape* shape, char* name);

// Takes a queue from its device, whoever else has it open. -EINVAL: the device has no several queues.
int DetachQueue(int fd);

// A persistent device keeps its addresses and routes when the last process closes it.
int SetTunPersistent(int fd, bool persistent);

// One read. 0 or more: its bytes; -EAGAIN: none is there. -EBADFD: the device was deleted.
// -EINVAL: the kernel threw away a packet that no virtio header describes; the next read gives the next one. A device that is down has no packets, which is
// no error.
int ReadPacket(int fd, const iovec* vectors, size_t count);

// Hands one packet to the kernel: 0, or a positive errno after bounded retries (EIO: the device is down). `patience`
// is how many milliseconds may be spent on waiting; what was spent is taken off.
int WritePacket(int fd, const iovec* vectors, size_t count, int* patience);

}  // namespace flannelette

#endif
