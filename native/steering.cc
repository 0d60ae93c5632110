#include "steering.h"

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include <linux/bpf.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "inner.h"

// Since Linux 4.16; older headers do not name it.
#ifndef TUNSETSTEERINGEBPF
#define TUNSETSTEERINGEBPF _IOR('T', 224, int)
#endif

namespace flannelette {

namespace {

constexpr uint8_t kResult = BPF_REG_0;
constexpr uint8_t kContext = BPF_REG_6;  // where loads from the packet want it
constexpr uint8_t kHash = BPF_REG_7;

constexpr bpf_insn Insn(int code, uint8_t to, uint8_t from, int16_t jump, int32_t value) {
  return {static_cast<uint8_t>(code), to, from, jump, value};
}
// The field of that size in the packet, to kResult; where the packet is too short, the program ends with queue 0.
constexpr bpf_insn Load(int size, size_t offset) {
  return Insn(BPF_LD | BPF_ABS | size, 0, 0, 0, static_cast<int32_t>(offset));
}
constexpr bpf_insn JumpUnless(int32_t value, int16_t over) {
  return Insn(BPF_JMP | BPF_JNE | BPF_K, kResult, 0, over, value);
}
constexpr bpf_insn MixIn() { return Insn(BPF_ALU64 | BPF_XOR | BPF_X, kHash, kResult, 0, 0); }

constexpr int32_t kNoOptions = 0x45;
constexpr int32_t kMoreFragmentsOrOffset = 0x3fff;

// The kernel takes the result modulo the number of queues.
constexpr bpf_insn kProgram[] = {
    Insn(BPF_ALU64 | BPF_MOV | BPF_X, kContext, BPF_REG_1, 0, 0),
    Load(BPF_W, kIpSource),
    Insn(BPF_ALU64 | BPF_MOV | BPF_X, kHash, kResult, 0, 0),
    Load(BPF_W, kIpDestination),
    MixIn(),
    Load(BPF_B, 0),
    JumpUnless(kNoOptions, 7),
    Load(BPF_B, kIpProtocol),
    JumpUnless(kTcp, 5),
    Load(BPF_H, kIpFragment),
    Insn(BPF_ALU64 | BPF_AND | BPF_K, kResult, 0, 0, kMoreFragmentsOrOffset),
    JumpUnless(0, 2),
    Load(BPF_W, kIpHeaderBytes),
    MixIn(),
    // The jumps lead here.
    Insn(BPF_ALU | BPF_MUL | BPF_K, kHash, 0, 0, static_cast<int32_t>(0x9e3779b1)),
    Insn(BPF_ALU | BPF_RSH | BPF_K, kHash, 0, 0, 16),
    Insn(BPF_ALU64 | BPF_MOV | BPF_X, kResult, kHash, 0, 0),
    Insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
};

}  // namespace

int KeepFlowsOnQueues(int tun) {
  static constexpr char kLicense[] = "Apache-2.0";  // it calls nothing that asks for another
  bpf_attr attributes{};
  attributes.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
  attributes.insns = reinterpret_cast<uintptr_t>(kProgram);
  attributes.insn_cnt = sizeof kProgram / sizeof kProgram[0];
  attributes.license = reinterpret_cast<uintptr_t>(kLicense);
  int program = static_cast<int>(syscall(__NR_bpf, BPF_PROG_LOAD, &attributes, sizeof attributes));
  if (program < 0) return -errno;
  const int error = ioctl(tun, TUNSETSTEERINGEBPF, &program) < 0 ? -errno : 0;
  close(program);  // the device holds it
  return error;
}

}  // namespace flannelette
