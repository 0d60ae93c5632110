// A decapsulating worker's batch: from the socket to the device. Memory belongs to the caller (a Buffer and an Int32Array
// of the worker's) and outlives the batch.
//
// A round is Receive, a walk in TypeScript over the descriptors, Transmit. Receive fills kOffset, kLength, kAddress, kPort
// and kSegments (always 1) of descriptors 0 … result-1, one for each datagram that was on the wire; the walk writes kVerdict
// and may shorten kLength; Transmit takes those with kForward and fills their kError and kMerged.
#ifndef FLANNELETTE_DECAP_BATCH_H_
#define FLANNELETTE_DECAP_BATCH_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include <netinet/in.h>
#include <sys/socket.h>

#include "coalesce.h"
#include "offloads.h"
#include "wait.h"

namespace flannelette {

class DecapBatch {
 public:
  // `descriptors` holds `capacity` of them. The arena has a place of kDatagramPlaceBytes for each datagram, or train of
  // datagrams, that one Receive may take.
  DecapBatch(uint8_t* arena, size_t arena_bytes, int32_t* descriptors, size_t capacity, int tun, int socket, int wakeup,
             uint32_t offloads);

  // Takes datagrams off the socket, as many as there are places for; trains (UDP_GRO) are taken apart. What there are no
  // descriptors left for comes with the next call. With nothing there it sleeps first. Returns how many there are; 0 when
  // `wakeup` ended the sleep; below zero a negated errno value.
  int Receive();
  // Whether datagrams were taken off the socket that Receive has not given yet.
  bool Holds() const { return message_ < received_; }
  // Writes every packet with the verdict kForward to the device, neighbours of one flow as one.
  void Transmit(size_t count);

  Offloads& offloads() { return offloads_; }

 private:
  int DrainSocket();
  int TakeApart();
  int Write(const CoalescedWrite& write);
  int WriteAlone(const int32_t* descriptor);
  void Refused(uint8_t gso_kind, int error);
  int32_t* Descriptor(size_t index);

  uint8_t* const arena_;
  int32_t* const descriptors_;
  const size_t capacity_;
  const size_t places_;
  const int tun_;
  const int socket_;
  Waiter waiter_;
  Offloads offloads_;
  int patience_ = 0;
  int refused_in_a_row_ = 0;
  // Of what was received last: which message is to be taken apart next, and from which of its bytes on.
  size_t received_ = 0;
  size_t message_ = 0;
  size_t taken_bytes_ = 0;
  const std::unique_ptr<mmsghdr[]> messages_;
  const std::unique_ptr<iovec[]> vectors_;
  const std::unique_ptr<sockaddr_in[]> addresses_;
  const std::unique_ptr<uint8_t[]> controls_;
  Coalescer coalescer_;
};

}  // namespace flannelette

#endif
