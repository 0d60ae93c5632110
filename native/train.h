// The way out: datagrams to next hops, in as few system calls as the kernel allows. Neighbours of one size that go to one
// next hop (the last may be shorter) are a train: one message with UDP_SEGMENT, which the kernel, or the network card,
// takes apart again. Whether they are the segments of one super-packet or packets of many flows does not matter. All
// trains of a batch go out with one sendmmsg(2).
//
// A train that the kernel refuses as such (EIO: the outgoing device has no checksum offload; EINVAL, EMSGSIZE: the path is
// narrower than its datagrams) is sent again at once, datagram by datagram, before anything after it: no packet is lost,
// and none overtakes another. Where its datagrams pass, the next hop gets no trains for a while (refused_next_hops.h).
//
// What becomes of each datagram is counted in its descriptor: kSentPackets, kSentBytes, kError, and which of them failed.
#ifndef FLANNELETTE_TRAIN_H_
#define FLANNELETTE_TRAIN_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include <netinet/in.h>
#include <sys/socket.h>

#include "inner.h"
#include "offloads.h"
#include "refused_next_hops.h"
#include "segment.h"

namespace flannelette {

class TrainSender {
 public:
  // The kernel's UDP_MAX_SEGMENTS before 6.9, which doubled it; and what a datagram over IPv4 can carry.
  static constexpr size_t kMaxTrainDatagrams = 64;
  static constexpr size_t kMaxTrainBytes = 65507;

  // Both outlive the sender.
  TrainSender(int socket, Offloads* offloads);

  // Before a batch: `patience` is how many milliseconds sending may wait for room in the kernel's queues in all.
  void Begin(int patience);
  // Where the datagrams that follow go to.
  void NextHop(uint32_t address, uint16_t port);
  // A packet that stays where it is until Flush. `descriptor` is where the outcome is counted.
  void AddPacket(const uint8_t* packet, size_t length, int32_t* descriptor);
  // A super-packet with these headers, whose payload stays where it is until Flush. Where the payloads of its segments lie
  // header_bytes apart, the segments' headers are written in between; otherwise (gaps is false) apart from it.
  void AddSuperPacket(const SegmentPlan& plan, const uint8_t* headers, uint8_t* payload, bool gaps, int32_t* descriptor);
  // Sends all that is left.
  void Flush();

 private:
  struct Datagram {
    const uint8_t* header;   // of a packet that was not cut: all of it
    const uint8_t* payload;
    uint32_t header_bytes;
    uint32_t payload_bytes;
    int32_t* descriptor;
    int32_t index;  // which of the descriptor's segments

    uint32_t bytes() const { return header_bytes + payload_bytes; }
  };
  struct Train {
    uint32_t first;
    uint32_t count;
    uint32_t datagram_bytes;  // of each but the last
    uint32_t bytes;
    bool open;  // takes more
    sockaddr_in address;
    alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint16_t))];
  };

  static constexpr size_t kMaxDatagrams = 1024;
  static constexpr size_t kHeaderPlaceBytes = 128;
  static_assert(kHeaderPlaceBytes >= kMaxHeaderBytes);

  void Append(const Datagram& datagram);
  size_t FillVectors(const Train& train, size_t vector);
  void SendSingly(const Train& train, int refusal);
  void Sent(const Train& train);
  static void Sent(const Datagram& datagram);
  static void Failed(const Datagram& datagram, int error);

  const int socket_;
  Offloads* const offloads_;
  RefusedNextHops refused_;
  sockaddr_in next_hop_{};
  bool trains_ = false;  // whether this next hop gets any
  int patience_ = 0;
  size_t datagram_count_ = 0;
  size_t train_count_ = 0;
  const std::unique_ptr<Datagram[]> datagrams_;
  const std::unique_ptr<Train[]> train_;
  const std::unique_ptr<mmsghdr[]> messages_;
  const std::unique_ptr<iovec[]> vectors_;
  const std::unique_ptr<uint8_t[]> headers_;  // a place for each datagram
};

}  // namespace flannelette

#endif
