// Runs a program to which system calls are denied, as by the seccomp(2) filter of a sandbox:
//
//   deny_calls CALL=ERRNO… -- PROGRAM ARGUMENT…
//
// CALL is one of the names in kCalls, ERRNO is EPERM or ENOSYS. What the program starts is denied the same.
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

// A call with some of its arguments; those are compared in their lower 32 bits.
struct Call {
  const char* name;
  uint32_t number;
  struct {
    int index;  // -1: none
    uint32_t value;
  } arguments[2];
};

constexpr uint32_t kUdpSegment = 103;
constexpr uint32_t kUdpGro = 104;

const Call kCalls[] = {
    {"sendmmsg", SYS_sendmmsg, {{-1, 0}, {-1, 0}}},
    {"recvmmsg", SYS_recvmmsg, {{-1, 0}, {-1, 0}}},
    {"setsockopt-UDP_SEGMENT", SYS_setsockopt, {{1, IPPROTO_UDP}, {2, kUdpSegment}}},
    {"setsockopt-UDP_GRO", SYS_setsockopt, {{1, IPPROTO_UDP}, {2, kUdpGro}}},
    {"ioctl-TUNSETOFFLOAD", SYS_ioctl, {{1, TUNSETOFFLOAD}, {-1, 0}}},
    {"ioctl-TUNSETVNETHDRSZ", SYS_ioctl, {{1, TUNSETVNETHDRSZ}, {-1, 0}}},
};

constexpr uint32_t kLowerHalf = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0;

uint32_t OffsetOfArgument(int index) {
  return static_cast<uint32_t>(offsetof(seccomp_data, args) + sizeof(uint64_t) * static_cast<size_t>(index)) + kLowerHalf;
}

void Deny(const Call& call, int error, std::vector<sock_filter>* filter) {
  std::vector<std::pair<uint32_t, uint32_t>> comparisons = {{offsetof(seccomp_data, nr), call.number}};
  for (const auto& argument : call.arguments) {
    if (argument.index >= 0) comparisons.emplace_back(OffsetOfArgument(argument.index), argument.value);
  }
  for (size_t done = 0; done < comparisons.size(); done++) {
    // Another value: over the rest of the comparisons, and over the verdict.
    const uint8_t rest = static_cast<uint8_t>(2 * (comparisons.size() - done - 1) + 1);
    filter->push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, comparisons[done].first));
    filter->push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, comparisons[done].second, 0, rest));
  }
  filter->push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error)));
}

bool ParseDenial(const std::string& text, std::vector<sock_filter>* filter) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos) return false;
  const std::string error = text.substr(equals + 1);
  if (error != "EPERM" && error != "ENOSYS") return false;
  for (const Call& call : kCalls) {
    if (text.compare(0, equals, call.name) != 0) continue;
    Deny(call, error == "EPERM" ? EPERM : ENOSYS, filter);
    return true;
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<sock_filter> filter;
  int at = 1;
  for (; at < argc && strcmp(argv[at], "--") != 0; at++) {
    if (ParseDenial(argv[at], &filter)) continue;
    fprintf(stderr, "deny_calls: %s: expected CALL=EPERM or CALL=ENOSYS\n", argv[at]);
    return 2;
  }
  if (at + 1 >= argc) {
    fprintf(stderr, "deny_calls: expected -- PROGRAM\n");
    return 2;
  }
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog program = {static_cast<unsigned short>(filter.size()), filter.data()};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    perror("deny_calls: the filter");
    return 3;
  }
  execvp(argv[at + 1], argv + at + 1);
  perror(argv[at + 1]);
  return 127;
}
