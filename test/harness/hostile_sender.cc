// Sends hostile packets as fast as it can: `hostile_sender udp ADDRESS PORT …` from a UDP socket to a tunnel's port,
// `hostile_sender device NAME MAC …` past the IP layer into a device ('-' for a device without addresses); then
// `PACKETS SEED SOURCES DESTINATIONS OWN KINDS PACED_PID`:
//
//   SOURCES, DESTINATIONS  the first three bytes of inner addresses that belong to the sender and to its victim: 10.5.34
//   OWN                    the victim's public address
//   KINDS                  names of kinds, by commas
//   PACED_PID              send no faster than this process reads its socket of port PORT; 0: send on
//
// Prints how many of each kind were sent, as JSON. The same seed sends the same packets.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

namespace {

constexpr size_t kSlotBytes = 2048;
constexpr size_t kMaxBytes = 1400;
constexpr size_t kBatch = 64;
constexpr size_t kMaxDatagramBytes = 65507;
// What a paced sender leaves in the victim's queue, in the kernel's account of memory.
constexpr unsigned long kQueueBytes = 1024 * 1024;
// What is sent at once.
constexpr size_t kBatchBytes = 512 * 1024;
constexpr size_t kHeader = 20;

uint64_t state;

uint32_t Word() {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return static_cast<uint32_t>(state >> 16);
}
uint32_t Below(uint32_t below) { return Word() % below; }

uint32_t sources, destinations, own;  // prefixes of 24 bits, and an address

void Put16(uint8_t* at, uint32_t value) {
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}
void Put32(uint8_t* at, uint32_t value) {
  Put16(at, value >> 16);
  Put16(at + 2, value);
}

void PutChecksum(uint8_t* packet, size_t header_bytes) {
  Put16(packet + 10, 0);
  uint32_t sum = 0;
  for (size_t at = 0; at < header_bytes; at += 2) sum += static_cast<uint32_t>(packet[at] << 8 | packet[at + 1]);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  Put16(packet + 10, ~sum & 0xffff);
}

// A packet of the sender's pods to the victim's that has nothing wrong with it but what comes after its IPv4 header.
size_t Good(uint8_t* packet, size_t length, uint32_t source, uint32_t destination) {
  packet[0] = 0x45;
  packet[1] = 0;
  Put16(packet + 2, static_cast<uint32_t>(length));
  Put32(packet + 4, Word());
  Put16(packet + 6, 0x4000);
  packet[8] = 64;
  packet[9] = Below(2) == 0 ? 6 : 17;
  Put32(packet + 12, source);
  Put32(packet + 16, destination);
  for (size_t at = kHeader; at + 4 <= length && at < 64; at += 4) Put32(packet + at, Word());
  PutChecksum(packet, kHeader);
  return length;
}

uint32_t Source() { return sources | (2 + Below(250)); }
uint32_t Destination() { return destinations | (2 + Below(2)); }
size_t Length() { return kHeader + Below(Below(4) == 0 ? kMaxBytes - kHeader : 100); }
size_t Good(uint8_t* packet) { return Good(packet, Length(), Source(), Destination()); }

size_t Truncated(uint8_t* packet) { return Below(static_cast<uint32_t>(Good(packet))); }

size_t LyingLengths(uint8_t* packet) {
  const size_t length = Good(packet);
  if (Below(2) == 0) packet[0] = static_cast<uint8_t>(0x40 | Below(16));
  if (Below(4) != 0) Put16(packet + 2, Word());
  PutChecksum(packet, kHeader);
  return length;
}

size_t Options(uint8_t* packet) {
  const size_t words = 1 + Below(10);
  const size_t length = std::max(Good(packet), kHeader + 4 * words);
  packet[0] = static_cast<uint8_t>(0x45 + words);
  Put16(packet + 2, static_cast<uint32_t>(length));
  for (size_t at = 0; at < words; at++) Put32(packet + kHeader + 4 * at, Word());
  PutChecksum(packet, kHeader + 4 * words);
  return length;
}

// All of the same few packets, one over the other.
size_t Fragments(uint8_t* packet) {
  const size_t length = Good(packet, kHeader + 8 * (1 + Below(20)), sources | 9, destinations | 2);
  Put16(packet + 4, Below(4));
  Put16(packet + 6, (Below(3) == 0 ? 0 : 0x2000) | Below(40));
  PutChecksum(packet, kHeader);
  return length;
}

size_t Tiny(uint8_t* packet) {
  Put32(packet, Word());
  if (Below(2) == 0) packet[0] = 0x45;
  return Below(4);
}

size_t Noise(uint8_t* packet) {
  const size_t length = Length();
  for (size_t at = 0; at < length; at += 4) Put32(packet + at, Word());
  return length;
}

size_t Version6(uint8_t* packet) {
  const size_t length = Good(packet);
  packet[0] = 0x60;
  return length;
}

uint32_t Multicast() { return 0xe0000000 | (Word() & 0x0fffffff); }
uint32_t Loopback() { return 0x7f000001; }
uint32_t LinkLocal() { return 0xa9fe0000 | Below(65536); }
uint32_t Public() { return own; }
uint32_t Own() { return Below(2) == 0 ? own : destinations | Below(4); }

template <uint32_t (*Address)()>
size_t From(uint8_t* packet) {
  return Good(packet, Length(), Address(), Destination());
}
template <uint32_t (*Address)()>
size_t To(uint8_t* packet) {
  return Good(packet, Length(), Source(), Address());
}

// To the tunnel's port of some host, a packet in a datagram.
template <uint32_t (*Address)()>
size_t Nested(uint8_t* packet) {
  uint8_t* const datagram = packet + kHeader;
  const size_t inner = Good(datagram + 8, kHeader + Below(60), Source(), Destination());
  uint8_t saved[kHeader + 60];
  memcpy(saved, datagram + 8, inner);
  const size_t length = Good(packet, kHeader + 8 + inner, Source(), Address());
  packet[9] = 17;
  PutChecksum(packet, kHeader);
  Put16(datagram, 8285);
  Put16(datagram + 2, 8285);
  Put16(datagram + 4, static_cast<uint32_t>(8 + inner));
  Put16(datagram + 6, 0);
  memcpy(datagram + 8, saved, inner);
  return length;
}

size_t LastHop(uint8_t* packet) {
  const size_t length = Good(packet);
  packet[8] = static_cast<uint8_t>(Below(2));
  PutChecksum(packet, kHeader);
  return length;
}

// Segments of one flow, some of which could be merged with the one before but for what is wrong with them.
size_t Stream(uint8_t* packet) {
  static uint32_t sequence = 0;
  const size_t length = Good(packet, kHeader + 20 + 100, sources | 7, destinations | 2);
  packet[9] = 6;
  Put16(packet + 4, sequence / 100);
  Put16(packet + kHeader, 40000);
  Put16(packet + kHeader + 2, 9);
  Put32(packet + kHeader + 4, sequence += 100);
  Put32(packet + kHeader + 8, 1);
  packet[kHeader + 12] = static_cast<uint8_t>(Below(8) == 0 ? Word() : 0x50);
  packet[kHeader + 13] = static_cast<uint8_t>(Below(8) == 0 ? Word() : 0x10);
  PutChecksum(packet, kHeader);
  return length;
}

struct Kind {
  const char* name;
  size_t (*make)(uint8_t*);  // nullptr: made by Fill
  unsigned long sent = 0;
};

Kind kinds[] = {
    {"truncated", Truncated},
    {"lying-lengths", LyingLengths},
    {"options", Options},
    {"fragments", Fragments},
    {"tiny", Tiny},
    {"noise", Noise},
    {"version-6", Version6},
    {"from-multicast", From<Multicast>},
    {"from-loopback", From<Loopback>},
    {"from-link-local", From<LinkLocal>},
    {"from-own-address", From<Own>},
    {"to-multicast", To<Multicast>},
    {"to-loopback", To<Loopback>},
    {"to-link-local", To<LinkLocal>},
    {"to-own-address", To<Own>},
    {"nested-tunnel", Nested<Destination>},
    {"to-tunnel-port", Nested<Public>},
    {"last-hop", LastHop},
    {"stream", Stream},
    {"well-formed", Good},
    {"train", nullptr},
    {"huge", nullptr},
};
constexpr size_t kSingleKinds = sizeof kinds / sizeof kinds[0] - 2;
const Kind* const kTrain = &kinds[kSingleKinds];

struct Message {
  std::vector<uint8_t> bytes;
  iovec vector;
  Kind* kind;
  unsigned long datagrams;
  alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint16_t))];
};

// Many datagrams of one size, each of some kind, and a last one that is shorter.
void FillTrain(Message* message, msghdr* header, unsigned long most) {
  const size_t segment = 24 + Below(1400);
  const size_t fit = std::min<size_t>({64, kMaxDatagramBytes / segment - 1, most});
  const size_t count = std::max<size_t>(1, fit - Below(static_cast<uint32_t>(fit)));
  size_t length = 0;
  for (size_t index = 0; index < count; index++, length += segment) {
    uint8_t packet[kSlotBytes] = {};
    kinds[Below(kSingleKinds)].make(packet);
    memcpy(&message->bytes[length], packet, segment);
  }
  message->datagrams = count;
  if (count < fit) {
    length += 1 + Below(static_cast<uint32_t>(segment) - 1);
    message->datagrams++;
  }
  message->vector.iov_len = length;
  if (message->datagrams == 1) return;
  header->msg_control = message->control;
  header->msg_controllen = sizeof message->control;
  cmsghdr* const control = CMSG_FIRSTHDR(header);
  control->cmsg_level = IPPROTO_UDP;
  control->cmsg_type = UDP_SEGMENT;
  control->cmsg_len = CMSG_LEN(sizeof(uint16_t));
  const uint16_t bytes = static_cast<uint16_t>(segment);
  memcpy(CMSG_DATA(control), &bytes, sizeof bytes);
}

void Fill(Message* message, msghdr* header, unsigned long most) {
  header->msg_iov = &message->vector;
  header->msg_iovlen = 1;
  header->msg_control = nullptr;
  header->msg_controllen = 0;
  message->vector.iov_base = message->bytes.data();
  message->datagrams = 1;
  if (message->kind->make != nullptr) {
    message->vector.iov_len = message->kind->make(message->bytes.data());
  } else if (message->kind == kTrain) {
    FillTrain(message, header, most);
  } else {
    const size_t length = 20000 + Below(static_cast<uint32_t>(kMaxDatagramBytes) - 20000);
    message->vector.iov_len = Good(message->bytes.data(), length, Source(), Destination());
  }
}

// What lies in the queues of that port's sockets in the namespace of that process.
unsigned long QueuedBytes(const std::string& table, unsigned port) {
  FILE* const file = fopen(table.c_str(), "r");
  if (file == nullptr) return 0;
  char line[512];
  unsigned long sum = 0;
  while (fgets(line, sizeof line, file) != nullptr) {
    unsigned local_port = 0;
    unsigned long queued = 0;
    if (sscanf(line, " %*d: %*x:%x %*x:%*x %*x %*x:%lx", &local_port, &queued) == 2 && local_port == port) sum += queued;
  }
  fclose(file);
  return sum;
}

uint32_t Address(const char* text) {
  in_addr address{};
  if (inet_pton(AF_INET, text, &address) != 1) {
    fprintf(stderr, "no address: %s\n", text);
    exit(2);
  }
  return ntohl(address.s_addr);
}

uint32_t Prefix(const char* text) { return Address((std::string(text) + ".0").c_str()); }

int Fail(const char* what) {
  perror(what);
  return 1;
}

int OpenSocket(bool udp, char** arguments) {
  if (udp) {
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(Address(arguments[0]));
    to.sin_port = htons(static_cast<uint16_t>(atoi(arguments[1])));
    return connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) < 0 ? -1 : fd;
  }
  return socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

sockaddr_ll DeviceAddress(char** arguments) {
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_protocol = htons(ETH_P_IP);
  to.sll_ifindex = static_cast<int>(if_nametoindex(arguments[0]));
  unsigned bytes[6];
  if (sscanf(arguments[1], "%x:%x:%x:%x:%x:%x", bytes, bytes + 1, bytes + 2, bytes + 3, bytes + 4, bytes + 5) == 6) {
    to.sll_halen = 6;
    for (size_t at = 0; at < 6; at++) to.sll_addr[at] = static_cast<uint8_t>(bytes[at]);
  }
  return to;
}

std::vector<Kind*> KindsOf(const std::string& names) {
  std::vector<Kind*> chosen;
  for (Kind& kind : kinds) {
    if (("," + names + ",").find("," + std::string(kind.name) + ",") != std::string::npos) chosen.push_back(&kind);
  }
  return chosen;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 11) {
    fprintf(stderr, "expected ten arguments\n");
    return 2;
  }
  const bool udp = strcmp(argv[1], "udp") == 0;
  const unsigned port = udp ? static_cast<unsigned>(atoi(argv[3])) : 0;
  unsigned long left = strtoul(argv[4], nullptr, 10);
  state = 0x9e3779b97f4a7c15 ^ (strtoull(argv[5], nullptr, 10) << 1 | 1);
  sources = Prefix(argv[6]);
  destinations = Prefix(argv[7]);
  own = Address(argv[8]);
  const std::vector<Kind*> chosen = KindsOf(argv[9]);
  const std::string pid = argv[10];
  const bool paced = pid != "0";
  const int fd = OpenSocket(udp, argv + 2);
  if (fd < 0 || chosen.empty()) return Fail("socket");
  sockaddr_ll device{};
  if (!udp) device = DeviceAddress(argv + 2);

  std::vector<Message> messages(kBatch);
  for (Message& message : messages) message.bytes.resize(kMaxDatagramBytes + kSlotBytes);
  while (left > 0) {
    if (paced) {
      while (QueuedBytes("/proc/" + pid + "/net/udp", port) > kQueueBytes) usleep(50);
    }
    mmsghdr headers[kBatch] = {};
    size_t count = 0;
    size_t bytes = 0;
    for (unsigned long planned = 0; count < kBatch && planned < left && bytes < kBatchBytes; count++) {
      Message& message = messages[count];
      message.kind = chosen[Below(static_cast<uint32_t>(chosen.size()))];
      Fill(&message, &headers[count].msg_hdr, left - planned);
      if (!udp) {
        headers[count].msg_hdr.msg_name = &device;
        headers[count].msg_hdr.msg_namelen = sizeof device;
      }
      planned += message.datagrams;
      bytes += message.vector.iov_len;
    }
    for (size_t done = 0; done < count;) {
      const int sent = sendmmsg(fd, &headers[done], static_cast<unsigned>(count - done), 0);
      for (int index = 0; index < sent; index++, done++) {
        messages[done].kind->sent += messages[done].datagrams;
        left -= messages[done].datagrams;
      }
      if (sent >= 0) continue;
      // A device that has no room says so, and counts the packet as dropped.
      if (!udp && errno == ENOBUFS) {
        messages[done].kind->sent++;
        left--;
        done++;
      } else if (!udp && errno == EINVAL) {
        done++;  // a packet that no device takes: an empty one
      } else if (errno != ENOBUFS && errno != EAGAIN && errno != EINTR && errno != ECONNREFUSED) {
        return Fail("sendmmsg");
      }
    }
  }
  printf("{");
  for (size_t index = 0; index < chosen.size(); index++) {
    printf("%s\"%s\":%lu", index == 0 ? "" : ",", chosen[index]->name, chosen[index]->sent);
  }
  printf("}\n");
  return 0;
}
