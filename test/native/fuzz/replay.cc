// Runs a target without a fuzzer, as any compiler builds it: `TARGET FOLDER SEED RUNS` gives it each file of a folder, and
// then as many inputs more that chance makes of them.
#include <dirent.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "../expect.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t length);

namespace {

constexpr size_t kMaxBytes = 4096;

std::vector<std::string> FilesOf(const std::string& folder) {
  std::vector<std::string> names;
  DIR* const directory = opendir(folder.c_str());
  if (directory == nullptr) return names;
  while (const dirent* const entry = readdir(directory)) {
    if (entry->d_name[0] != '.') names.push_back(folder + "/" + entry->d_name);
  }
  closedir(directory);
  std::sort(names.begin(), names.end());
  return names;
}

// In memory that ends where the input does.
void Run(const std::string& input) {
  const std::unique_ptr<uint8_t[]> memory(new uint8_t[input.size()]);
  std::copy(input.begin(), input.end(), memory.get());
  LLVMFuzzerTestOneInput(memory.get(), input.size());
}

std::string Mutation(const std::vector<std::string>& inputs, Random* random) {
  std::string bytes = inputs[random->Below(static_cast<uint32_t>(inputs.size()))];
  for (uint32_t changes = random->Between(1, 6); changes > 0; changes--) {
    const size_t at = random->Below(static_cast<uint32_t>(bytes.size() + 1));
    switch (random->Below(4)) {
      case 0:
        if (at < bytes.size()) bytes[at] = static_cast<char>(random->Word());
        break;
      case 1: bytes.insert(at, random->Between(1, 8), static_cast<char>(random->Word())); break;
      case 2: bytes.erase(at, random->Between(1, 16)); break;
      case 3: bytes = bytes.substr(0, at) + inputs[random->Below(static_cast<uint32_t>(inputs.size()))]; break;
    }
  }
  if (bytes.size() > kMaxBytes) bytes.resize(kMaxBytes);
  return bytes;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  std::vector<std::string> inputs;
  for (const std::string& path : FilesOf(argv[1])) {
    std::ifstream file(path, std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    printf("%s\n", path.c_str());
    fflush(stdout);
    Run(inputs.back());
  }
  if (inputs.empty()) {
    fprintf(stderr, "no inputs in %s\n", argv[1]);
    return 1;
  }
  Random random(argc, argv);
  fflush(stdout);
  const unsigned long runs = strtoul(argv[3], nullptr, 10);
  for (unsigned long run = 0; run < runs; run++) Run(Mutation(inputs, &random));
  printf("%zu files, %lu mutations\n", inputs.size(), runs);
  return 0;
}
