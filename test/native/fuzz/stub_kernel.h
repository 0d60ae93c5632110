// A kernel that an input's bytes drive, in place of the system calls that a batch makes: a device that hands over packets and
// takes them, a socket that sends and receives. It keeps to what the real calls promise, but fails as often as the input
// wants. Calls on other descriptors go to the real kernel.
#ifndef FLANNELETTE_FUZZ_STUB_KERNEL_H_
#define FLANNELETTE_FUZZ_STUB_KERNEL_H_

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "fuzz_input.h"

namespace flannelette {

constexpr int kStubDevice = 10001;
constexpr int kStubSocket = 10002;
constexpr int kStubWakeup = 10003;

// A datagram that was sent, or is to be received.
struct StubDatagram {
  uint32_t address;  // in host order
  uint16_t port;
  std::string bytes;
  // Of a train: the size of its datagrams but the last; 0: one datagram.
  uint32_t train_datagram_bytes;
};

struct StubKernel {
  // One at a time; the calls find it by themselves.
  explicit StubKernel(FuzzInput* faults);
  ~StubKernel();

  // Whether the next call fails, and how: 0, or one of the errors that such a call has.
  int Fault(const std::vector<int>& errors);

  FuzzInput* const faults;
  bool faulty = false;  // calls fail only where it is set
  std::deque<std::string> from_device;    // what reads of the device give
  std::vector<std::string> to_device;     // what was written to it
  std::deque<StubDatagram> from_network;  // what the socket receives
  std::vector<StubDatagram> to_network;   // single datagrams, trains taken apart
};

}  // namespace flannelette

#endif
