// Runs a program to which only the system calls of a seccomp profile are allowed; all others fail with ENOSYS:
//
//   allow_calls PROGRAM ARGUMENT…
//
// The rules come from allowed_calls.inc, which the test makes from the profile. What the program starts is held by the
// same.
#include <cstddef>
#include <cstdint>
#include <cerrno>
#include <cstdio>
#include <vector>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

// A call is allowed when one of its arguments, under the mask, has the value; -1: whatever they are.
struct Rule {
  uint32_t number;
  int argument;
  uint32_t mask;
  uint32_t value;
};

constexpr Rule kRules[] = {
#include "allowed_calls.inc"
};

constexpr uint32_t kNumberAt = offsetof(seccomp_data, nr);
constexpr uint32_t kLowerHalf = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0;

void Allow(const Rule& rule, std::vector<sock_filter>* filter) {
  const bool any = rule.argument < 0;
  filter->push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kNumberAt));
  filter->push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, rule.number, 0, static_cast<uint8_t>(any ? 1 : 4)));
  if (!any) {
    const size_t at = offsetof(seccomp_data, args) + sizeof(uint64_t) * static_cast<size_t>(rule.argument);
    filter->push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(at) + kLowerHalf));
    filter->push_back(BPF_STMT(BPF_ALU | BPF_AND | BPF_K, rule.mask));
    filter->push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, rule.value, 0, 1));
  }
  filter->push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    fprintf(stderr, "allow_calls: expected PROGRAM\n");
    return 2;
  }
  std::vector<sock_filter> filter;
  for (const Rule& rule : kRules) Allow(rule, &filter);
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS));
  const sock_fprog program = {static_cast<unsigned short>(filter.size()), filter.data()};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    perror("allow_calls: the filter");
    return 3;
  }
  execvp(argv[1], argv + 1);
  perror(argv[1]);
  return 127;
}
