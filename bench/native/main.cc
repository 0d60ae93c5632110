#include "traffic.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace bench {

namespace {

[[noreturn]] void Usage(const std::string& complaint) {
  fprintf(stderr, "traffic: %s\n", complaint.c_str());
  exit(2);
}

}  // namespace

Options::Options(int count, char** words) {
  for (int index = 0; index < count; index++) {
    const char* equals = strchr(words[index], '=');
    if (equals == nullptr) Usage(std::string(words[index]) + ": expected NAME=VALUE");
    values_[std::string(words[index], static_cast<size_t>(equals - words[index]))] = equals + 1;
  }
}

const std::string& Options::Text(const char* name) const {
  const auto found = values_.find(name);
  if (found == values_.end()) Usage(std::string(name) + "=… is missing");
  return found->second;
}

uint32_t Options::Address(const char* name) const {
  in_addr address;
  if (inet_pton(AF_INET, Text(name).c_str(), &address) != 1) Usage(std::string(name) + ": expected an IPv4 address");
  return ntohl(address.s_addr);
}

long Options::Number(const char* name) const {
  const std::string& text = Text(name);
  char* end = nullptr;
  const long value = strtol(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || value < 0) Usage(std::string(name) + ": expected a whole number");
  return value;
}

void Fail(const char* what) {
  fprintf(stderr, "traffic: %s: %s\n", what, strerror(errno));
  exit(1);
}

int OpenSocket(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) Fail("socket");
  const int bytes = 16 << 20;
  // Beyond the system's limit, as root may.
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes);
  sockaddr_in own = {};
  own.sin_family = AF_INET;
  own.sin_port = htons(port);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&own), sizeof own) != 0) Fail("bind");
  return fd;
}

double Now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

}  // namespace bench

int main(int count, char** words) {
  // Nothing is left running when the benchmark is killed.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const std::map<std::string, int (*)(const bench::Options&)> commands = {
      {"flood", bench::Flood}, {"count", bench::Count}, {"echo", bench::Echo}, {"ask", bench::Ask}};
  const auto command = count < 2 ? commands.end() : commands.find(words[1]);
  if (command == commands.end()) {
    fprintf(stderr, "traffic: expected flood, count, echo or ask, then NAME=VALUE…\n");
    return 2;
  }
  return command->second(bench::Options(count - 2, words + 2));
}
