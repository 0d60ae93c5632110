// What the programs of this folder have in common: conditions that print where they did not hold, and random numbers
// that can be had again.
#ifndef FLANNELETTE_TEST_EXPECT_H_
#define FLANNELETTE_TEST_EXPECT_H_

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

inline int failures = 0;

inline bool Expect(bool holds, const char* what, const char* file, int line) {
  if (holds) return true;
  // Enough of the same.
  if (++failures <= 20) fprintf(stderr, "%s:%d: %s\n", file, line, what);
  return false;
}
#define EXPECT(condition) Expect((condition), #condition, __FILE__, __LINE__)

// The programs take a folder for what they have to put somewhere, and a seed, which otherwise is chance; it is printed, for
// a run that failed to be repeated.
class Random {
 public:
  Random(int argc, char** argv) : Random(argc > 2 ? strtoull(argv[2], nullptr, 10) : std::random_device{}()) {}
  explicit Random(uint64_t seed) : engine_(seed) { printf("seed %llu\n", static_cast<unsigned long long>(seed)); }

  // 0 … below - 1.
  uint32_t Below(uint32_t below) { return static_cast<uint32_t>(engine_() % below); }
  uint32_t Between(uint32_t least, uint32_t most) { return least + Below(most - least + 1); }
  uint32_t Word() { return static_cast<uint32_t>(engine_()); }
  bool OneIn(uint32_t chance) { return Below(chance) == 0; }

 private:
  std::mt19937_64 engine_;
};

inline int Summary() {
  if (failures == 0) printf("all passed\n");
  return failures == 0 ? 0 : 1;
}

#endif
