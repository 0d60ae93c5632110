// A service manager with one service, for tests: what systemd does about sd_notify(3), sd_listen_fds(3) and its descriptor
// store, by the same protocol and in the same order. Restarts the service whenever it ends, after a pause.
//
//   service_manager SOCKET LOG MAX RESTART_MS PROGRAM ARGUMENT…
//
// Commands, a line each on standard input: start; restart (SIGTERM, wait, start); stop; kill (SIGKILL, and so a restart);
// store (what is kept). Events, a line each on standard output: "started PID", "ended STATUS", "notified TEXT" with its
// lines joined by " | ", "store NAME…". Ends with its standard input, and the service with it.
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

struct Stored {
  std::string name;
  int fd;
  bool polled;
};

struct Manager {
  const char* socket_path;
  const char* log_path;
  size_t store_max;
  int restart_ms;
  char** command;

  int socket = -1;
  pid_t service = -1;
  bool wanted = false;     // the service is to run
  int64_t start_at_ms = 0;  // when it is not running
  std::vector<Stored> store;
};

[[noreturn]] void Fail(const char* what) {
  perror(what);
  exit(1);
}

int64_t NowMs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

bool SameFile(int one, int other) {
  return syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, one, other) == 0;
}

void RunService(const Manager& manager) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  const int log = open(manager.log_path, O_WRONLY | O_CREAT | O_APPEND, 0644);
  const int null = open("/dev/null", O_RDONLY);
  dup2(null, 0);
  dup2(log, 1);
  dup2(log, 2);
  // Out of the way first: the places from 3 on may be those of others of them.
  std::vector<int> moved;
  std::string names;
  for (const Stored& stored : manager.store) {
    moved.push_back(fcntl(stored.fd, F_DUPFD, 1000));
    names += (names.empty() ? "" : ":") + stored.name;
  }
  for (size_t index = 0; index < moved.size(); index++) dup2(moved[index], static_cast<int>(3 + index));
  for (int fd = static_cast<int>(3 + moved.size()); fd < 2000; fd++) close(fd);
  setenv("NOTIFY_SOCKET", manager.socket_path, 1);
  if (!moved.empty()) {
    setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1);
    setenv("LISTEN_FDS", std::to_string(moved.size()).c_str(), 1);
    setenv("LISTEN_FDNAMES", names.c_str(), 1);
  }
  execvp(manager.command[0], manager.command);
  Fail(manager.command[0]);
}

void Start(Manager* manager) {
  manager->wanted = true;
  if (manager->service > 0) return;
  const pid_t pid = fork();
  if (pid < 0) Fail("fork");
  if (pid == 0) RunService(*manager);
  manager->service = pid;
  printf("started %d\n", pid);
}

std::string Field(const std::string& message, const std::string& name) {
  const std::string lines = "\n" + message + "\n";
  const size_t at = lines.find("\n" + name + "=");
  if (at == std::string::npos) return "";
  const size_t from = at + name.size() + 2;
  return lines.substr(from, lines.find('\n', from) - from);
}

void Keep(Manager* manager, const std::string& message, const std::vector<int>& fds) {
  for (const int fd : fds) {
    bool known = false;
    for (const Stored& stored : manager->store) known |= SameFile(stored.fd, fd);
    if (known || manager->store.size() >= manager->store_max) {
      close(fd);
      continue;
    }
    const std::string name = Field(message, "FDNAME");
    manager->store.push_back({name.empty() ? "stored" : name, fd, Field(message, "FDPOLL") != "0"});
  }
}

void Drop(Manager* manager, const std::string& name) {
  std::vector<Stored> left;
  for (const Stored& stored : manager->store) {
    if (stored.name == name) close(stored.fd);
    else left.push_back(stored);
  }
  manager->store = left;
}

// Whether there was a message.
bool TakeMessage(Manager* manager) {
  char text[65536];
  alignas(cmsghdr) char control[CMSG_SPACE(768 * sizeof(int)) + CMSG_SPACE(sizeof(ucred))];
  iovec vector{text, sizeof text};
  msghdr header{};
  header.msg_iov = &vector;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  const ssize_t length = recvmsg(manager->socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (length < 0) return false;
  std::vector<int> fds;
  pid_t sender = -1;
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET) continue;
    if (part->cmsg_type == SCM_CREDENTIALS) sender = reinterpret_cast<const ucred*>(CMSG_DATA(part))->pid;
    if (part->cmsg_type != SCM_RIGHTS) continue;
    fds.resize((part->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    memcpy(fds.data(), CMSG_DATA(part), fds.size() * sizeof(int));
  }
  const std::string message(text, static_cast<size_t>(length));
  // NotifyAccess=main, except that a barrier is answered to anybody.
  const bool accepted = sender == manager->service;
  if (message == "BARRIER=1") {
    // Closing what came with it is the answer.
  } else if (accepted && Field(message, "FDSTORE") == "1") {
    Keep(manager, message, fds);
    fds.clear();
  } else if (accepted && Field(message, "FDSTOREREMOVE") == "1") {
    Drop(manager, Field(message, "FDNAME"));
  }
  for (const int fd : fds) close(fd);
  std::string shown;
  for (const char mark : message) shown += mark == '\n' ? std::string(" | ") : std::string(1, mark);
  printf("notified %s\n", shown.c_str());
  return true;
}

void Reap(Manager* manager) {
  int status = 0;
  if (manager->service <= 0 || waitpid(manager->service, &status, WNOHANG) != manager->service) return;
  // What it said last counts before its end.
  while (TakeMessage(manager)) continue;
  printf("ended %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  manager->service = -1;
  manager->start_at_ms = NowMs() + manager->restart_ms;
}

void EndService(Manager* manager, int signal) {
  if (manager->service > 0) kill(manager->service, signal);
}

void Obey(Manager* manager, const std::string& command) {
  if (command == "start") {
    Start(manager);
  } else if (command == "kill") {
    EndService(manager, SIGKILL);
  } else if (command == "stop" || command == "restart") {
    manager->wanted = false;
    EndService(manager, SIGTERM);
    while (manager->service > 0) {
      while (TakeMessage(manager)) continue;
      Reap(manager);
      usleep(500);
    }
    // By the job that asked for it, without the pause of Restart=.
    if (command == "restart") Start(manager);
  } else if (command == "store") {
    printf("store");
    for (const Stored& stored : manager->store) printf(" %s", stored.name.c_str());
    printf("\n");
  }
}

// What is polled in the store goes when its other end does, or an error waits on it.
void DropFailed(Manager* manager) {
  std::vector<Stored> left;
  for (const Stored& stored : manager->store) {
    pollfd polled{stored.fd, 0, 0};
    if (stored.polled && poll(&polled, 1, 0) > 0) close(stored.fd);
    else left.push_back(stored);
  }
  manager->store = left;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) return 2;
  setvbuf(stdout, nullptr, _IOLBF, 0);
  Manager manager{argv[1], argv[2], static_cast<size_t>(atoi(argv[3])), atoi(argv[4]), argv + 5, {}, {}, {}, {}, {}};
  manager.service = -1;

  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, nullptr);
  const int signals = signalfd(-1, &child, SFD_NONBLOCK | SFD_CLOEXEC);

  manager.socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const int on = 1;
  setsockopt(manager.socket, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  snprintf(address.sun_path, sizeof address.sun_path, "%s", manager.socket_path);
  unlink(manager.socket_path);
  if (bind(manager.socket, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) Fail("bind");
  // Services of any user write to it.
  if (chmod(address.sun_path, 0777) < 0) Fail("chmod");

  std::string input;
  for (;;) {
    pollfd polled[] = {{manager.socket, POLLIN, 0}, {signals, POLLIN, 0}, {0, POLLIN, 0}};
    const bool waiting = manager.wanted && manager.service <= 0;
    const int64_t left = manager.start_at_ms - NowMs();
    poll(polled, 3, waiting ? (left > 0 ? static_cast<int>(left) : 0) : 200);
    while (TakeMessage(&manager)) continue;
    signalfd_siginfo info;
    while (read(signals, &info, sizeof info) > 0) continue;
    Reap(&manager);
    DropFailed(&manager);
    if (manager.wanted && manager.service <= 0 && NowMs() >= manager.start_at_ms) Start(&manager);
    if ((polled[2].revents & (POLLIN | POLLHUP)) == 0) continue;
    char bytes[256];
    const ssize_t length = read(0, bytes, sizeof bytes);
    if (length <= 0) break;
    input.append(bytes, static_cast<size_t>(length));
    for (size_t end; (end = input.find('\n')) != std::string::npos; input.erase(0, end + 1)) {
      Obey(&manager, input.substr(0, end));
    }
  }
  EndService(&manager, SIGKILL);
  return 0;
}
