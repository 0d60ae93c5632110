#include "checksum.h"

#include "inner.h"

namespace flannelette {

uint64_t SumBytes(const uint8_t* bytes, size_t length, uint64_t sum) {
  // Independent accumulators, so that the compiler makes vectors of them. 32-bit words are two 16-bit words at once: what
  // they carry over is folded in at the end.
  constexpr size_t kLanes = 8;
  constexpr size_t kStep = kLanes * sizeof(uint32_t);
  if (length >= kStep) {
    uint64_t lanes[kLanes] = {};
    for (; length >= kStep; length -= kStep, bytes += kStep) {
      uint32_t words[kLanes];
      memcpy(words, bytes, kStep);
      for (size_t lane = 0; lane < kLanes; lane++) lanes[lane] += words[lane];
    }
    for (const uint64_t lane : lanes) sum += lane;
  }
  for (; length >= sizeof(uint32_t); length -= sizeof(uint32_t), bytes += sizeof(uint32_t)) sum += LoadRaw32(bytes);
  if (length >= sizeof(uint16_t)) {
    sum += LoadRaw16(bytes);
    bytes += sizeof(uint16_t);
    length -= sizeof(uint16_t);
  }
  if (length > 0) {
    const uint8_t padded[sizeof(uint16_t)] = {*bytes, 0};
    sum += LoadRaw16(padded);
  }
  return sum;
}

uint64_t SumPseudoHeader(const uint8_t* ip, uint8_t protocol, size_t length) {
  uint8_t rest[4] = {0, protocol};
  Store16(rest + 2, static_cast<uint32_t>(length));
  return uint64_t{LoadRaw32(ip + kIpSource)} + LoadRaw32(ip + kIpDestination) + LoadRaw32(rest);
}

}  // namespace flannelette
