// Tests of native/ without Node: real sockets on loopback, and in place of the TUN device a pair of unix sockets that keep
// packets apart (SOCK_SEQPACKET). Prints what fails; the exit status says whether anything did.
#include <cerrno>
#include <csignal>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "batch_bench.h"
#include "decap_batch.h"
#include "encap_batch.h"
#include "layout.h"
#include "notify.h"
#include "tun.h"
#include "udp.h"
#include "wait.h"

using namespace flannelette;

namespace {

// A packet that a device throws away while it is read, as a TUN does when no virtio header describes it.
const std::string kUndescribable = "undescribable";

}  // namespace

extern "C" ssize_t readv(int fd, const iovec* vectors, int count) {
  const ssize_t length = syscall(SYS_readv, fd, vectors, count);
  if (length != static_cast<ssize_t>(kUndescribable.size()) ||
      memcmp(vectors[0].iov_base, kUndescribable.data(), kUndescribable.size()) != 0) {
    return length;
  }
  errno = EINVAL;
  return -1;
}

namespace {

void OutgoingPacketsLieApartWithHeadroomAndGoWhereDescriptorsSay() {
  Bench<EncapBatch> bench;
  for (const char* packet : {"one", "a second packet, longer", "3"}) bench.FromHost(packet);
  EXPECT(bench.batch->Receive() == 3);
  EXPECT(bench.Packet(0) == "one" && bench.Packet(1) == "a second packet, longer" && bench.Packet(2) == "3");
  EXPECT(bench.Field(0, kOffset) >= static_cast<int32_t>(kHeadroomBytes));
  EXPECT(bench.Field(1, kOffset) >= bench.Field(0, kOffset) + bench.Field(0, kLength) + static_cast<int32_t>(kHeadroomBytes));
  bench.Forward(0, kLoopback, PortOf(bench.peer));
  bench.Field(1, kVerdict) = 4;  // dropped
  bench.Field(1, kError) = -1;
  bench.Forward(2, kLoopback, PortOf(bench.peer));
  bench.batch->Transmit(3);
  EXPECT(bench.Field(0, kError) == 0 && bench.Field(2, kError) == 0);
  EXPECT(bench.Field(0, kSentPackets) == 1 && bench.Field(0, kSentBytes) == 3);
  EXPECT(bench.Field(1, kError) == -1);
  EXPECT(Receive(bench.peer) == "one");
  EXPECT(Receive(bench.peer) == "3");
  EXPECT(Receive(bench.peer) == "nothing");
}

void ABatchEndsWithTheDescriptorsAndWithTheArena() {
  Bench<EncapBatch> few(kPlain, 4);
  for (int count = 0; count < 6; count++) few.FromHost("packet");
  EXPECT(few.batch->Receive() == 4);
  EXPECT(few.batch->Receive() == 2);

  // Room for the largest packet after one small one, but not after two.
  Bench<EncapBatch> small(kPlain, 8, 2 * kHeadroomBytes + 64 + ScatteredRead::kMaxBytes + kMaxPacketBytes);
  for (int count = 0; count < 3; count++) small.FromHost("packet");
  EXPECT(small.batch->Receive() == 2);
  EXPECT(small.batch->Receive() == 1);
}

void APacketThatTheDeviceThrowsAwayCountsAndHoldsNoOtherUp() {
  Bench<EncapBatch> bench;
  for (const std::string& packet : {std::string("one"), kUndescribable, kUndescribable, std::string("two")}) {
    bench.FromHost(packet);
  }
  EXPECT(bench.batch->Receive() == 4);
  EXPECT(bench.Packet(0) == "one" && bench.Packet(3) == "two");
  EXPECT(bench.Field(1, kLength) == 0 && bench.Field(2, kLength) == 0);
  bench.FromHost(kUndescribable);
  EXPECT(bench.batch->Receive() == 1);
  EXPECT(bench.Field(0, kLength) == 0);

  Bench<EncapBatch> broken(kPlain, 4);
  for (int count = 0; count < 4; count++) broken.FromHost(kUndescribable);
  EXPECT(broken.batch->Receive() == -EINVAL);  // whoever asks again at once would never rest
}

void EachPartOfASuperPacketCountsUnderItsOwnError() {
  Bench<EncapBatch> bench;
  Offloads offloads(0);
  TrainSender sender(bench.socket, &offloads);
  const std::vector<uint8_t> bytes(65508, 'x');  // more than a datagram can carry
  sender.Begin(50);
  sender.NextHop(kLoopback, PortOf(bench.peer));
  sender.AddPacket(bytes.data(), bytes.size(), bench.descriptors.data());
  sender.AddPacket(bytes.data(), 1, bench.descriptors.data());
  sender.NextHop(0xffffffff, 9);  // broadcast without leave
  sender.AddPacket(bytes.data(), 1, bench.descriptors.data());
  sender.Flush();
  EXPECT(bench.Field(0, kSentPackets) == 1);
  EXPECT(bench.Field(0, kTooBigPackets) == 1);
  EXPECT(bench.Field(0, kError) == EACCES || bench.Field(0, kError) == ENETUNREACH);
}

void AFailedDatagramHoldsNoOtherUp() {
  Bench<EncapBatch> bench;
  bench.FromHost(std::string(65508, 'x'));  // more than a datagram can carry
  bench.FromHost("two");
  bench.FromHost("three");
  bench.FromHost("four");
  EXPECT(bench.batch->Receive() == 4);
  bench.Forward(0, kLoopback, PortOf(bench.peer));
  bench.Forward(1, kLoopback, PortOf(bench.peer));
  bench.Forward(2, 0xffffffff, 9);  // broadcast without leave
  bench.Forward(3, kLoopback, PortOf(bench.peer));
  bench.batch->Transmit(4);
  EXPECT(bench.Field(0, kError) == EMSGSIZE && bench.Field(0, kSentPackets) == 0);
  EXPECT(bench.Field(0, kFirstFailed) == 0 && bench.Field(0, kLastFailed) == 0);
  EXPECT(bench.Field(0, kTooBigPackets) == 1 && bench.Field(0, kFirstTooBig) == 0 && bench.Field(0, kLastTooBig) == 0);
  EXPECT(bench.Field(1, kTooBigPackets) == 0 && bench.Field(2, kTooBigPackets) == 0);
  EXPECT(bench.Field(1, kError) == 0);
  EXPECT(bench.Field(2, kError) == EACCES || bench.Field(2, kError) == ENETUNREACH);
  EXPECT(bench.Field(3, kError) == 0);
  EXPECT(Receive(bench.peer) == "two");
  EXPECT(Receive(bench.peer) == "four");
}

void AnErrorThatAnEarlierDatagramLeftCostsNoPacket() {
  Bench<EncapBatch> bench;
  // A connected socket is told of port-unreachable with the next call, whichever that is.
  const int gone = OpenUdp(kLoopback, 0, false, 1 << 16);
  const sockaddr_in nowhere = SocketAddress(kLoopback, PortOf(gone));
  close(gone);
  EXPECT(connect(bench.socket, reinterpret_cast<const sockaddr*>(&nowhere), sizeof nowhere) == 0);
  EXPECT(send(bench.socket, "x", 1, 0) == 1);
  bench.FromHost("survivor");
  EXPECT(bench.batch->Receive() == 1);
  bench.Forward(0, kLoopback, PortOf(bench.peer));
  bench.batch->Transmit(1);
  EXPECT(bench.Field(0, kError) == 0);
  EXPECT(Receive(bench.peer) == "survivor");
  EXPECT(send(bench.socket, "x", 1, 0) == 1);
  mmsghdr message{};
  Offloads offloads(kPlain);
  EXPECT(ReceiveMessages(bench.socket, &message, 1, &offloads) == -EAGAIN);
}

void IncomingDatagramsComeWithTheirSenders() {
  Bench<DecapBatch> bench(kPlain, 8, 2 * kDatagramPlaceBytes);
  bench.FromPeer("first");
  bench.FromPeer("");
  bench.FromPeer(std::string(65507, 'y'));
  EXPECT(bench.batch->Receive() == 2);  // as many as the arena has places for
  EXPECT(bench.Packet(0) == "first" && bench.Packet(1).empty());
  EXPECT(static_cast<uint32_t>(bench.Field(0, kAddress)) == kLoopback);
  EXPECT(bench.Field(0, kPort) == PortOf(bench.peer));
  EXPECT(bench.batch->Receive() == 1);
  EXPECT(bench.Packet(0) == std::string(65507, 'y'));
  bench.Field(0, kLength) = 1400;
  bench.Field(0, kVerdict) = kForward;
  bench.batch->Transmit(1);
  EXPECT(bench.Field(0, kError) == 0);
  EXPECT(Receive(bench.device[1]) == std::string(1400, 'y'));
}

void AClosedDeviceIsAnErrorOfThatPacketOnly() {
  Bench<DecapBatch> bench;
  bench.FromPeer("late");
  EXPECT(bench.batch->Receive() == 1);
  close(bench.device[1]);
  bench.device[1] = -1;
  bench.Field(0, kVerdict) = kForward;
  bench.batch->Transmit(1);
  EXPECT(bench.Field(0, kError) == EPIPE);
}

void AWakeupEndsASleepWhetherItCameBeforeOrAfter() {
  Bench<EncapBatch> bench;
  Bench<DecapBatch> incoming;
  SignalWakeup(bench.wakeup);
  SignalWakeup(bench.wakeup);
  EXPECT(bench.batch->Receive() == 0);
  EXPECT(Pause(bench.wakeup, 1) == kReady);  // both signals were consumed at once
  std::thread waker([&] {
    usleep(20000);
    SignalWakeup(incoming.wakeup);
  });
  EXPECT(incoming.batch->Receive() == 0);
  waker.join();
  std::thread sender([&] {
    usleep(20000);
    bench.FromHost("packet");
  });
  EXPECT(bench.batch->Receive() == 1);
  sender.join();
}

void WithoutBatchedSystemCallsItIsTheSame() {
  for (uint32_t offloads : {0u, kPlain}) {
    Bench<EncapBatch> out(offloads);
    for (const char* packet : {"one", "two"}) out.FromHost(packet);
    EXPECT(out.batch->Receive() == 2);
    for (size_t index = 0; index < 2; index++) out.Forward(index, kLoopback, PortOf(out.peer));
    out.batch->Transmit(2);
    EXPECT((out.AtPeer() == std::vector<std::string>{"one", "two"}));

    Bench<DecapBatch> in(offloads);
    for (const char* packet : {"three", "four"}) in.FromPeer(packet);
    EXPECT(in.batch->Receive() == 2);
    EXPECT(in.Packet(0) == "three" && in.Packet(1) == "four");
    EXPECT(out.batch->offloads().pending() == 0 && in.batch->offloads().pending() == 0);
  }
}

void APortIsSharedOnlyOnRequest() {
  const int first = OpenUdp(kLoopback, 0, false, 1 << 16);
  EXPECT(OpenUdp(kLoopback, PortOf(first), false, 1 << 16) == -EADDRINUSE);
  EXPECT(OpenUdp(kLoopback, PortOf(first), true, 1 << 16) == -EADDRINUSE);
  const int shared = OpenUdp(kLoopback, 0, true, 1 << 16);
  const int also = OpenUdp(kLoopback, PortOf(shared), true, 1 << 16);
  EXPECT(shared >= 0 && also >= 0);
  EXPECT(PathMtu(kLoopback, kLoopback) >= 1500);
  for (int fd : {first, shared, also}) close(fd);
}

void NotificationsReachPathsAndAbstractNames(const std::string& folder) {
  for (const std::string& path : {folder + "/notify", std::string("@flannelette-batch-test-") + std::to_string(getpid())}) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, path.data(), path.size());
    if (path[0] == '@') address.sun_path[0] = '\0';
    const socklen_t length =
        static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (path[0] == '@' ? 0 : 1));
    const int listener = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    EXPECT(bind(listener, reinterpret_cast<const sockaddr*>(&address), length) == 0);
    EXPECT(NotifySocket(path.data(), path.size(), "READY=1", 7, nullptr, 0) == 0);
    EXPECT(Receive(listener) == "READY=1");
    close(listener);
    EXPECT(NotifySocket(path.data(), path.size(), "READY=1", 7, nullptr, 0) == -ECONNREFUSED);
  }
  EXPECT(NotifySocket("", 0, "", 0, nullptr, 0) == -EINVAL);
  const std::string longest(sizeof(sockaddr_un::sun_path), 'x');
  EXPECT(NotifySocket(longest.data(), longest.size(), "", 0, nullptr, 0) == -EINVAL);
}

void NamesOfDevicesAreBounded() { EXPECT(OpenTun("a-name-that-is-too-long", false, true) == -ENAMETOOLONG); }

}  // namespace

int main(int argc, char** argv) {
  OutgoingPacketsLieApartWithHeadroomAndGoWhereDescriptorsSay();
  ABatchEndsWithTheDescriptorsAndWithTheArena();
  APacketThatTheDeviceThrowsAwayCountsAndHoldsNoOtherUp();
  EachPartOfASuperPacketCountsUnderItsOwnError();
  AFailedDatagramHoldsNoOtherUp();
  AnErrorThatAnEarlierDatagramLeftCostsNoPacket();
  IncomingDatagramsComeWithTheirSenders();
  signal(SIGPIPE, SIG_IGN);  // as Node does
  AClosedDeviceIsAnErrorOfThatPacketOnly();
  AWakeupEndsASleepWhetherItCameBeforeOrAfter();
  WithoutBatchedSystemCallsItIsTheSame();
  APortIsSharedOnlyOnRequest();
  NotificationsReachPathsAndAbstractNames(argc > 1 ? argv[1] : "/tmp");
  NamesOfDevicesAreBounded();
  return Summary();
}
