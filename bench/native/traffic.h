// The benchmark's own traffic: programs that are not the bottleneck of what they measure. Each function is a command of
// `traffic`, prints one line of JSON and returns the exit status.
#ifndef FLANNELETTE_BENCH_TRAFFIC_H_
#define FLANNELETTE_BENCH_TRAFFIC_H_

#include <cstdint>
#include <map>
#include <string>

namespace bench {

// NAME=VALUE words of the command line.
class Options {
 public:
  // Ends the program with one line and status 2 where a word is no NAME=VALUE.
  Options(int count, char** words);
  // Both end the program with one line and status 2 where the option is missing or no number.
  uint32_t Address(const char* name) const;  // an IPv4 address, in host order
  long Number(const char* name) const;

 private:
  const std::string& Text(const char* name) const;
  std::map<std::string, std::string> values_;
};

// What every datagram of a flood begins with; the rest is zero.
struct Mark {
  uint32_t flow;
  uint32_t magic;
  uint64_t sequence;
};
constexpr uint32_t kMagic = 0x666c6f77;

// to port size flows subnets seconds: sends datagrams as fast as they go, in turn to `flows` flows. Flow f goes to the
// address `to` + 256 × (f mod subnets), port `port` + f / subnets, so that each flow differs in its outer appearance.
int Flood(const Options& options);

// port ports flows outer: counts what Flood sent until standard input ends, by flow, with what came out of order. With
// outer=1 the datagrams are an overlay's and the marks are looked for behind an inner IPv4 and UDP header.
int Count(const Options& options);

// port: sends every datagram back, until it is ended.
int Echo(const Options& options);

// to port size seconds gap: asks an Echo, waits for the answer, then `gap` microseconds, and so on.
int Ask(const Options& options);

// Ends the program with "traffic: WHAT: the reason in errno" and status 1.
[[noreturn]] void Fail(const char* what);

// A UDP socket with large buffers, bound to `port` of all addresses (0: a free one).
int OpenSocket(uint16_t port);

// Seconds of the monotonic clock.
double Now();

}  // namespace bench

#endif
