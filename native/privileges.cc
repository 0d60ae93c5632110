#include "privileges.h"

#include <cerrno>

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace flannelette {

namespace {

constexpr size_t kLookUpBytes = 64 * 1024;
constexpr int kMaxCapabilities = 64;

// The C library's wrappers would change all threads, each with the capabilities that it happens to have.
int SetIdentity(const Identity& identity) {
  if (syscall(SYS_setgroups, identity.groups.size(), identity.groups.data()) < 0) return -errno;
  if (syscall(SYS_setresgid, identity.gid, identity.gid, identity.gid) < 0) return -errno;
  return syscall(SYS_setresuid, identity.uid, identity.uid, identity.uid) < 0 ? -errno : 0;
}

// Of those permitted now.
int SetCapabilities(uint64_t* capabilities) {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {};
  if (syscall(SYS_capget, &header, sets) < 0) return -errno;
  *capabilities &= sets[0].permitted | static_cast<uint64_t>(sets[1].permitted) << 32;
  for (int word = 0; word < _LINUX_CAPABILITY_U32S_3; word++) {
    const uint32_t kept = static_cast<uint32_t>(*capabilities >> (32 * word));
    sets[word] = {kept, kept, kept};
  }
  return syscall(SYS_capset, &header, sets) < 0 ? -errno : 0;
}

void LimitBoundingSet(uint64_t capabilities) {
  for (int number = 0; number < kMaxCapabilities; number++) {
    if ((capabilities >> number & 1) != 0) continue;
    // Without CAP_SETPCAP it stays as it is, and no_new_privs keeps what is in it from being gained.
    if (prctl(PR_CAPBSET_READ, number) == 1) prctl(PR_CAPBSET_DROP, number);
  }
}

int RaiseAmbient(uint64_t capabilities) {
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0) return -errno;
  for (int number = 0; number < kMaxCapabilities; number++) {
    if ((capabilities >> number & 1) == 0) continue;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0) < 0) return -errno;
  }
  return 0;
}

// Pipes of the log are opened anew by the daemon, which only their owner may do.
void HandOverLogPipes(uid_t uid) {
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) {
    struct stat file {};
    if (fstat(fd, &file) < 0 || !S_ISFIFO(file.st_mode)) continue;
    // Where it fails, the log blocks when nobody reads it, and nothing worse.
    if (fchown(fd, uid, static_cast<gid_t>(-1)) < 0) continue;
  }
}

// Node marks what it has inherited to be closed.
void KeepOpen(int fds) {
  for (int fd = 0; fd < fds; fd++) {
    const int flags = fcntl(fd, F_GETFD);
    if (flags >= 0) fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC);
  }
}

std::vector<char*> Pointers(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

int CopyGroups(int fd, std::vector<gid_t>* groups) {
  socklen_t bytes = 0;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, nullptr, &bytes) == 0) return 0;  // there are none
  if (errno != ERANGE) return -errno;
  groups->resize(bytes / sizeof(gid_t));
  return getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups->data(), &bytes) < 0 ? -errno : 0;
}

}  // namespace

int LookUpUser(const char* name, Identity* identity) {
  std::vector<char> text(kLookUpBytes);
  passwd entry{};
  passwd* found = nullptr;
  const int error = getpwnam_r(name, &entry, text.data(), text.size(), &found);
  if (found == nullptr) return error == 0 ? -ENOENT : -error;
  identity->uid = entry.pw_uid;
  identity->gid = entry.pw_gid;
  int count = 0;
  getgrouplist(name, entry.pw_gid, nullptr, &count);
  identity->groups.resize(static_cast<size_t>(count));
  if (getgrouplist(name, entry.pw_gid, identity->groups.data(), &count) < 0) return -EAGAIN;
  identity->groups.resize(static_cast<size_t>(count));
  return 0;
}

int LookUpGroup(const char* name, gid_t* gid) {
  std::vector<char> text(kLookUpBytes);
  group entry{};
  group* found = nullptr;
  const int error = getgrnam_r(name, &entry, text.data(), text.size(), &found);
  if (found == nullptr) return error == 0 ? -ENOENT : -error;
  *gid = entry.gr_gid;
  return 0;
}

int PeerIdentity(int fd, Identity* identity) {
  ucred peer{};
  socklen_t bytes = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) < 0) return -errno;
  identity->uid = peer.uid;
  identity->gid = peer.gid;
  // An older kernel does not tell them: then the primary group is all that counts.
  const int error = CopyGroups(fd, &identity->groups);
  return error == -ENOPROTOOPT ? 0 : error;
}

ConfinementFailure ExecuteConfined(const Confinement& confinement) {
  int death_signal = 0;
  prctl(PR_GET_PDEATHSIG, &death_signal);

  uint64_t capabilities = confinement.capabilities;
  LimitBoundingSet(capabilities);
  if (confinement.identity != nullptr) {
    HandOverLogPipes(confinement.identity->uid);
    if (prctl(PR_SET_KEEPCAPS, 1) < 0) return {"keeping capabilities", errno};
    const int error = SetIdentity(*confinement.identity);
    if (error < 0) return {"becoming that user", -error};
  }
  int error = SetCapabilities(&capabilities);
  if (error < 0) return {"dropping capabilities", -error};
  error = RaiseAmbient(capabilities);
  if (error < 0) return {"passing capabilities on", -error};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return {"setting no_new_privs", errno};
  // A change of user clears it.
  if (death_signal != 0) prctl(PR_SET_PDEATHSIG, death_signal);

  for (const std::string& path : confinement.readable) {
    if (access(path.c_str(), R_OK) < 0) return {path.c_str(), errno};
  }
  KeepOpen(confinement.inherited_fds);
  const std::vector<char*> arguments = Pointers(confinement.arguments);
  const std::vector<char*> environment = Pointers(confinement.environment);
  execve(confinement.program.c_str(), arguments.data(), environment.data());
  return {confinement.program.c_str(), errno};
}

}  // namespace flannelette
