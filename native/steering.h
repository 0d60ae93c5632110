// Which queue of a device with several gets a packet that the host sends. The kernel's own choice is the queue that last
// wrote something of the packet's flow, for a few seconds: a flow would move to another queue with its first answer, and
// back, with packets still waiting in the queue it leaves, and another worker would carry what follows past them.
#ifndef FLANNELETTE_STEERING_H_
#define FLANNELETTE_STEERING_H_

namespace flannelette {

// Gives each flow of the device one queue for good: TCP by addresses and ports, all else, which may be fragmented, by
// addresses. 0, or a negated errno value where the kernel (before 4.16) or some filter does not allow it.
int KeepFlowsOnQueues(int tun);

}  // namespace flannelette

#endif
