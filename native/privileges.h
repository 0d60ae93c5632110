#ifndef FLANNELETTE_PRIVILEGES_H_
#define FLANNELETTE_PRIVILEGES_H_

#include <cstdint>
#include <string>
#include <vector>

#include <sys/types.h>

// Theory of operation. User, groups and capabilities belong to a thread, and Node has several before the first line of
// JavaScript runs. What one thread gives up, the others would keep; but execve(2) ends all threads but the one that calls
// it, and what that one has is what the new program begins with. So one thread takes on the rights that the daemon is to
// have, and starts the daemon anew in the same process: same pid, same descriptors, same command line.
//
// The capabilities that stay are ambient as well, so that the programs the daemon runs (ip, iptables, nft) have them too,
// whoever the user is (capabilities(7), "Ambient").

namespace flannelette {

// Of the effective user: whose rights a process is to have.
struct Identity {
  uid_t uid;
  gid_t gid;
  std::vector<gid_t> groups;  // supplementary, gid included
};

// 0, or a negated errno value: -ENOENT where the name is nobody's.
int LookUpUser(const char* name, Identity* identity);
int LookUpGroup(const char* name, gid_t* gid);

// Who is at the other end of a connected unix socket: SO_PEERCRED and SO_PEERGROUPS (Linux 4.13) of unix(7).
// 0, or a negated errno value.
int PeerIdentity(int fd, Identity* identity);

struct Confinement {
  const Identity* identity;  // nullptr: stays as it is
  uint64_t capabilities;     // bit N: capability N, where the process has it
  std::vector<std::string> readable;  // paths that the program needs: it is not started when one cannot be read
  int inherited_fds;  // descriptors below this stay open
  std::string program;
  std::vector<std::string> arguments;
  std::vector<std::string> environment;
};

struct ConfinementFailure {
  const char* step;
  int error;
};

// Gives the calling thread the user, no capabilities but those, and no way to gain others (no_new_privs), then executes
// the program. Returns only when that failed; the thread may have lost rights by then, and is to do nothing but tell.
ConfinementFailure ExecuteConfined(const Confinement& confinement);

}  // namespace flannelette

#endif
