// Sums: in one piece or in several, at any alignment, they are those of the reference; and a sum put into a header verifies.
#include "checksum.h"

#include <cstring>
#include <memory>

#include <arpa/inet.h>

#include "fuzz_input.h"
#include "scripted_packets.h"

using namespace flannelette;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t length) {
  FuzzInput input(bytes, length);
  const size_t shift = input.Below(64);
  const size_t cut = input.Word();
  const size_t filling = input.Flag() ? input.Between(1, 4000) : 0;
  const std::string data = filling > 0 ? input.Filling(filling) : input.Rest();
  const std::unique_ptr<uint8_t[]> memory(new uint8_t[shift + data.size()]);
  uint8_t* const start = memory.get() + shift;
  memcpy(start, data.data(), data.size());

  const uint16_t whole = FoldSum(SumBytes(start, data.size(), 0));
  // 0 and 0xffff are the same number, and only all zeros give 0.
  EXPECT(ntohs(whole) == ReferenceSum(data));
  EXPECT((whole == 0) == (data.find_first_not_of('\0') == std::string::npos));
  const size_t first = std::min(cut, data.size()) & ~size_t{1};
  EXPECT(FoldSum(SumBytes(start + first, data.size() - first, SumBytes(start, first, 0))) == whole);
  if (data.size() >= kIpHeaderBytes) {
    const uint8_t protocol = static_cast<uint8_t>(data[9]);
    std::string pseudo = data.substr(12, 8) + std::string(4, '\0');
    pseudo[9] = data[9];
    SetWord(&pseudo, 10, static_cast<uint32_t>(data.size() & 0xffff));
    EXPECT(ntohs(FoldSum(SumPseudoHeader(start, protocol, data.size() & 0xffff))) == ReferenceSum(pseudo));
    memset(start + 10, 0, 2);
    const uint16_t checksum = FinishSum(SumBytes(start, data.size(), 0));
    memcpy(start + 10, &checksum, sizeof checksum);
    EXPECT(FinishSum(SumBytes(start, data.size(), 0)) == 0);
    EXPECT(FinishUdpSum(SumBytes(start, data.size(), 0)) != 0);
  }
  return EndOfInput();
}
