// The TUN device (Documentation/networking/tuntap.rst in the kernel's tree): IPv4 packets without packet information,
// one a read and one a write. Results below zero are negated errno values.
#ifndef FLANNELETTE_TUN_H_
#define FLANNELETTE_TUN_H_

#include <cstddef>
#include <cstdint>

namespace flannelette {

constexpr size_t kInterfaceNameBytes = 16;  // IFNAMSIZ: the terminating zero included

// Opens one queue of a device and makes the device when it does not exist; `name` may hold one %d, which the kernel
// replaces by the first free number. Non-blocking, closed on exec. -EBUSY: another process holds the device. -EINVAL:
// the device exists in another shape (of one queue, or of several).
int OpenTun(const char* name, bool multi_queue);

// The device's present name. `name` has room for kInterfaceNameBytes.
int TunName(int fd, char* name);

// A persistent device keeps its addresses and routes when the last process closes it.
int SetTunPersistent(int fd, bool persistent);

// One packet of at most `capacity` bytes. 0 or more: its bytes; -EAGAIN: none is there. -EBADFD: the device was deleted.
// A device that is down has no packets, which is no error.
int ReadPacket(int fd, uint8_t* packet, size_t capacity);

// Hands one packet to the kernel: 0, or a positive errno after bounded retries (EIO: the device is down). `patience`
// is how many milliseconds may be spent on waiting; what was spent is taken off.
int WritePacket(int fd, const uint8_t* packet, size_t length, int* patience);

}  // namespace flannelette

#endif
