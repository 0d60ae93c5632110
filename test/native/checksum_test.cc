// The internet checksum, held against the reference of packets.h.
#include "checksum.h"

#include <memory>

#include "packets.h"

using namespace flannelette;

namespace {

// Folded, in network order.
uint32_t Folded(uint64_t sum) {
  const uint16_t word = FoldSum(sum);
  const uint8_t* const bytes = reinterpret_cast<const uint8_t*>(&word);
  return static_cast<uint32_t>(bytes[0] << 8 | bytes[1]);
}

// In memory of exactly this size, `misaligned` bytes from where the allocator would put it.
uint64_t SumOf(const std::string& bytes, size_t misaligned, uint64_t sum) {
  const std::unique_ptr<uint8_t[]> memory(new uint8_t[misaligned + bytes.size()]);
  memcpy(memory.get() + misaligned, bytes.data(), bytes.size());
  return SumBytes(memory.get() + misaligned, bytes.size(), sum);
}

void EveryLengthAtEveryAlignment(Random* random) {
  for (size_t length = 0; length < 200; length++) {
    for (size_t misaligned = 0; misaligned < 9; misaligned++) {
      const std::string bytes = RandomBytes(random, length);
      EXPECT(Folded(SumOf(bytes, misaligned, 0)) == ReferenceSum(bytes));
    }
  }
}

void SumsAddUp(Random* random) {
  for (int round = 0; round < 300; round++) {
    const std::string one = RandomBytes(random, 2 * random->Below(1000));
    const std::string other = RandomBytes(random, random->Below(65536));
    EXPECT(Folded(SumOf(other, 1, SumOf(one, 3, 0))) == ReferenceSum(one + other));
  }
}

void TheLargestSumDoesNotOverflow() {
  const std::string ones(65535, '\xff');
  uint64_t sum = 0;
  for (int times = 0; times < 100; times++) sum = SumOf(ones.substr(1), 0, sum);
  EXPECT(Folded(sum) == 0xffff);
  EXPECT(FoldSum(UINT64_MAX) == 0xffff);
  EXPECT(FoldSum(0xffffffff00000001) == 1);
}

void OnlyNothingAddsUpToZero() {
  EXPECT(FoldSum(0) == 0 && FinishSum(0) == 0xffff && FinishUdpSum(0) == 0xffff);
  for (const uint64_t sum : {uint64_t{0xffff}, uint64_t{0xffff0000}, uint64_t{0xffff} << 40, uint64_t{0x1fffe}}) {
    EXPECT(FoldSum(sum) == 0xffff && FinishSum(sum) == 0 && FinishUdpSum(sum) == 0xffff);
  }
}

// The example of RFC 1071, section 3.
void TheStandardsOwnExample() {
  const std::string bytes("\x00\x01\xf2\x03\xf4\xf5\xf6\xf7", 8);
  EXPECT(Folded(SumOf(bytes, 0, 0)) == 0xddf2);
}

void PseudoHeaders(Random* random) {
  for (int round = 0; round < 200; round++) {
    const std::string packet = MakePacket(RandomShape(random), RandomBytes(random, random->Below(3000)));
    const uint64_t sum = SumPseudoHeader(reinterpret_cast<const uint8_t*>(packet.data()),
                                         static_cast<uint8_t>(packet[9]), packet.size() - IpHeaderBytes(packet));
    EXPECT(Folded(sum) == ReferenceSum(PseudoHeader(packet)));
  }
}

}  // namespace

int main(int argc, char** argv) {
  Random random(argc, argv);
  EveryLengthAtEveryAlignment(&random);
  SumsAddUp(&random);
  TheLargestSumDoesNotOverflow();
  OnlyNothingAddsUpToZero();
  TheStandardsOwnExample();
  PseudoHeaders(&random);
  return Summary();
}
