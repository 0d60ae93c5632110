// The bytes of a fuzzer's input as what a target asks for, one after the other. When there are none left, all that is
// asked for is zero, so that every input means something.
#ifndef FLANNELETTE_FUZZ_INPUT_H_
#define FLANNELETTE_FUZZ_INPUT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "../expect.h"

namespace flannelette {

class FuzzInput {
 public:
  FuzzInput(const uint8_t* bytes, size_t length) : next_(bytes), end_(bytes + length) {}

  size_t left() const { return static_cast<size_t>(end_ - next_); }

  uint8_t Byte() { return next_ < end_ ? *next_++ : 0; }
  uint16_t Word() { return static_cast<uint16_t>(Byte() << 8 | Byte()); }
  uint32_t Long() { return static_cast<uint32_t>(Word()) << 16 | Word(); }
  bool Flag() { return (Byte() & 1) != 0; }
  // 0 … below - 1, `below` at most 65,536.
  uint32_t Below(uint32_t below) { return (below <= 256 ? Byte() : Word()) % below; }
  uint32_t Between(uint32_t least, uint32_t most) { return least + Below(most - least + 1); }
  // As many as there are, at most `length`.
  std::string Bytes(size_t length) {
    const size_t taken = std::min(length, left());
    const std::string bytes(reinterpret_cast<const char*>(next_), taken);
    next_ += taken;
    return bytes;
  }
  std::string Rest() { return Bytes(left()); }

  // `length` bytes that depend on one byte of the input: payload, without an input as long as it.
  std::string Filling(size_t length) {
    const uint8_t kind = Byte();
    if (kind == 0) return std::string(length, '\0');
    if (kind == 255) return std::string(length, '\xff');
    std::string bytes(length, '\0');
    uint32_t state = kind * 0x9e3779b9u;
    for (char& byte : bytes) {
      state = state * 1664525 + 1013904223;
      byte = static_cast<char>(state >> 24);
    }
    return bytes;
  }

 private:
  const uint8_t* next_;
  const uint8_t* const end_;
};

// At the end of each input: what EXPECT found is a finding of the fuzzer's.
inline int EndOfInput() {
  if (failures > 0) abort();
  return 0;
}

}  // namespace flannelette

#endif
