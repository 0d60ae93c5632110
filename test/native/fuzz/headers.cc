// Reading headers: whatever the bytes are, nothing beyond them is looked at (their memory ends with them), and what is
// answered agrees with them.
#include <cstring>
#include <memory>

#include "fuzz_input.h"
#include "inner.h"
#include "scripted_packets.h"

using namespace flannelette;

namespace {

void Check(const std::string& packet) {
  const std::unique_ptr<uint8_t[]> memory(new uint8_t[packet.size()]);
  memcpy(memory.get(), packet.data(), packet.size());
  InnerHeaders headers;
  const bool parsed = ParseInner(memory.get(), packet.size(), &headers);
  EXPECT(parsed == IsWellFormed(packet));
  if (!parsed) return;
  EXPECT(headers.total_bytes == WordAt(packet, 2) && headers.total_bytes <= packet.size());
  EXPECT(headers.ip_header_bytes == IpHeaderBytes(packet) && headers.protocol == ByteAt(packet, 9));
  EXPECT(headers.fragment == ((WordAt(packet, 6) & 0x3fff) != 0));
  EXPECT(headers.header_bytes() <= headers.total_bytes && headers.header_bytes() <= kMaxHeaderBytes);
  EXPECT(memcmp(&headers.source, packet.data() + 12, 4) == 0 && memcmp(&headers.destination, packet.data() + 16, 4) == 0);
  if (headers.transport_header_bytes == 0) {
    EXPECT(headers.source_port == 0 && headers.destination_port == 0);
    return;
  }
  EXPECT(!headers.fragment && (headers.protocol == kTcp || headers.protocol == kUdp));
  EXPECT(headers.header_bytes() == HeaderBytes(packet));
  const char* const transport = packet.data() + headers.ip_header_bytes;
  EXPECT(memcmp(&headers.source_port, transport, 2) == 0 && memcmp(&headers.destination_port, transport + 2, 2) == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t length) {
  FuzzInput input(bytes, length);
  if (input.Flag()) {
    ScriptedPackets packets(&input);
    for (int count = 0; count < 8 && input.left() > 0; count++) Check(packets.Next());
  } else {
    Check(input.Rest());
  }
  return EndOfInput();
}
