// Tests of how descriptors come and go: over real unix sockets.
#include <cerrno>
#include <cstring>
#include <string>
#include <thread>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "descriptor_passing.h"
#include "expect.h"
#include "notify.h"

using namespace flannelette;

namespace {

struct Received {
  std::string message;
  int fds[kMaxPassedDescriptors];
  size_t count;
  int result;
};

Received Receive(int socket) {
  Received received{std::string(1024, '\0'), {}, 0, 0};
  received.result = ReceiveWithDescriptors(socket, &received.message[0], 1024, received.fds, &received.count);
  received.message.resize(received.result > 0 ? static_cast<size_t>(received.result) : 0);
  return received;
}

void MessagesKeepTheirBoundsAndBringDescriptors(const std::string& folder) {
  const std::string path = folder + "/messages";
  const int listener = ListenForMessages(path.data(), path.size());
  EXPECT(listener >= 0);
  EXPECT(AcceptConnection(listener) == -EAGAIN);
  const int one = ConnectForMessages(path.data(), path.size());
  const int other = AcceptConnection(listener);
  EXPECT(one >= 0 && other >= 0);
  EXPECT(Receive(other).result == -EAGAIN);

  int ends[2];
  EXPECT(pipe(ends) == 0);
  EXPECT(SendWithDescriptors(one, nullptr, 0, "first", 5, &ends[1], 1) == 0);
  EXPECT(SendWithDescriptors(one, nullptr, 0, "second", 6, nullptr, 0) == 0);
  const Received first = Receive(other);
  EXPECT(first.message == "first" && first.count == 1);
  EXPECT((fcntl(first.fds[0], F_GETFD) & FD_CLOEXEC) != 0);
  EXPECT(write(first.fds[0], "x", 1) == 1);
  char byte = 0;
  EXPECT(read(ends[0], &byte, 1) == 1 && byte == 'x');
  EXPECT(Receive(other).message == "second");

  const std::string large(2000, 'x');
  EXPECT(SendWithDescriptors(one, nullptr, 0, large.data(), large.size(), &ends[1], 1) == 0);
  EXPECT(Receive(other).result == -EMSGSIZE);
  EXPECT(SendWithDescriptors(one, nullptr, 0, "last", 4, nullptr, 0) == 0);
  close(one);
  EXPECT(Receive(other).message == "last");
  EXPECT(Receive(other).result == 0);
  for (const int fd : {first.fds[0], ends[0], ends[1], other, listener}) close(fd);
  EXPECT(ConnectForMessages(path.data(), path.size()) == -ECONNREFUSED);
  EXPECT(ListenForMessages(path.data(), path.size()) == -EADDRINUSE);
}

void TooManyDescriptorsAreRefused() {
  int fds[kMaxPassedDescriptors + 1] = {};
  EXPECT(SendWithDescriptors(-1, nullptr, 0, "", 0, fds, kMaxPassedDescriptors + 1) == -EINVAL);
}

void DescriptorsAreKeptFromProgramsOrGivenToThem() {
  const int fd = open("/dev/null", O_RDONLY);
  EXPECT(SetInherited(fd, false) == 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
  EXPECT(SetInherited(fd, true) == 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0);
  close(fd);
  EXPECT(SetInherited(fd, true) == -EBADF);
}

// A service manager that takes one message, and closes what came with it or keeps it.
void ABarrierEndsWhenTheReceiverHasClosedItsEnd(const std::string& folder) {
  const std::string path = folder + "/barrier";
  sockaddr_un address;
  socklen_t length = 0;
  EXPECT(UnixAddress(path.data(), path.size(), &address, &length) == 0);
  const int manager = socket(AF_UNIX, SOCK_DGRAM, 0);
  EXPECT(bind(manager, reinterpret_cast<const sockaddr*>(&address), length) == 0);
  for (const bool answers : {true, false}) {
    Received received{};
    std::thread thread([&] {
      pollfd polled{manager, POLLIN, 0};
      poll(&polled, 1, -1);
      received = Receive(manager);
      if (answers) close(received.fds[0]);
    });
    const int result = NotifyBarrier(path.data(), path.size(), "BARRIER=1", 9, answers ? 60'000 : 100);
    thread.join();
    EXPECT(received.message == "BARRIER=1" && received.count == 1);
    EXPECT(result == (answers ? 0 : -ETIME));
    if (!answers) close(received.fds[0]);
  }
  close(manager);
  EXPECT(NotifyBarrier(path.data(), path.size(), "BARRIER=1", 9, 100) == -ECONNREFUSED);
}

}  // namespace

int main(int, char** argv) {
  MessagesKeepTheirBoundsAndBringDescriptors(argv[1]);
  TooManyDescriptorsAreRefused();
  DescriptorsAreKeptFromProgramsOrGivenToThem();
  ABarrierEndsWhenTheReceiverHasClosedItsEnd(argv[1]);
  return Summary();
}
