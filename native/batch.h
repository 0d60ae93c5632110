// A worker's batch: the four calls that carry packets. Memory belongs to the caller (a Buffer and an Int32Array of the
// worker's) and outlives the batch; the batch has only the kernel's message headers, which point into it.
//
// A round of the outgoing direction is EncapReceive, a walk in TypeScript over the descriptors, EncapTransmit; of the
// incoming one DecapReceive, a walk, DecapTransmit. Receive calls fill kOffset, kLength (incoming also kAddress, kPort) of
// descriptors 0 … result-1; the walk writes kVerdict (outgoing also kAddress and kPort) and may change kLength;
// transmit calls take those with kForward and fill their kError.
#ifndef FLANNELETTE_BATCH_H_
#define FLANNELETTE_BATCH_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include <netinet/in.h>
#include <sys/socket.h>

namespace flannelette {

class Batch {
 public:
  // `descriptors` holds `capacity` of them. For receiving datagrams the arena must have capacity × kDatagramPlaceBytes.
  Batch(uint8_t* arena, size_t arena_bytes, int32_t* descriptors, size_t capacity, int tun, int socket, int wakeup);

  // Takes packets off the device until there are no more, the descriptors are used up, or the arena has no room for one
  // of the largest size. With nothing there it sleeps first. Returns how many came; 0 when `wakeup` ended the sleep;
  // below zero a negated errno value.
  int EncapReceive();
  // Sends every packet with the verdict kForward to its kAddress and kPort.
  void EncapTransmit(size_t count);

  // Takes datagrams off the socket, as many as there are descriptors for; otherwise as EncapReceive.
  int DecapReceive();
  // Writes every packet with the verdict kForward to the device.
  void DecapTransmit(size_t count);

  int wakeup() const { return wakeup_; }
  size_t capacity() const { return capacity_; }

 private:
  int DrainDevice();
  int DrainSocket();
  int32_t* Descriptor(size_t index);

  uint8_t* const arena_;
  const size_t arena_bytes_;
  int32_t* const descriptors_;
  const size_t capacity_;
  const int tun_;
  const int socket_;
  const int wakeup_;
  const std::unique_ptr<mmsghdr[]> messages_;
  const std::unique_ptr<iovec[]> vectors_;
  const std::unique_ptr<sockaddr_in[]> addresses_;
  const std::unique_ptr<size_t[]> senders_;  // the descriptor behind each outgoing message
  const std::unique_ptr<int[]> errors_;
};

}  // namespace flannelette

#endif
