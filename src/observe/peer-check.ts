/** Whom the control socket answers. The socket's file mode comes first; this holds where somebody has widened that. */
import type { Socket } from 'node:net';

/** Why whoever is at the other end of a connection is not answered; `undefined` for one who is. */
export type PeerCheck = (socket: Socket) => string | undefined;

/** A user with its groups. */
export interface Peer {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

/**
 * Lets in root, the daemon's own user, and the members of a group.
 * @param identify tells who is at the other end of a unix socket
 */
export function checkPeers(
  ownUid: number,
  groupId: number | undefined,
  identify: (fd: number) => Peer | undefined,
): PeerCheck {
  return (socket) => {
    const fd = descriptorOf(socket);
    const peer = fd === undefined ? undefined : identify(fd);
    if (peer === undefined) return 'the kernel does not say who asks';
    if (peer.uid === 0 || peer.uid === ownUid) return undefined;
    if (groupId !== undefined && (peer.gid === groupId || peer.groups.includes(groupId))) return undefined;
    return `uid ${peer.uid} may not ask this daemon: only root, its own user and the group of --control-group may`;
  };
}

/** Node has no public name for it. */
function descriptorOf(socket: Socket): number | undefined {
  const { _handle: handle } = socket as Socket & { readonly _handle?: { readonly fd?: number } };
  return handle?.fd !== undefined && handle.fd >= 0 ? handle.fd : undefined;
}
