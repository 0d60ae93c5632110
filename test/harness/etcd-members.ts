/** Several real etcd servers that are one cluster. */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { EtcdServer } from '../../src/lab/etcd-server.js';
import type { EtcdServerOptions } from '../../src/lab/etcd-server.js';
import type { Namespace } from '../../src/lab/namespace.js';

/** Below those that the kernel gives to clients; two for each member. */
const FIRST_PORT = 21_379;
const LEADER_TIMEOUT_MS = 30_000;

interface MemberStatus {
  readonly header: { readonly member_id: string };
  readonly leader?: string;
}

/** Where a member is. */
export interface MemberPlace {
  readonly address: string;
  /** For clients; the one after it is for the other members. */
  readonly port: number;
  /** That of this process by default. */
  readonly namespace?: Namespace;
}

export type MemberOptions = Pick<EtcdServerOptions, 'extraArguments'>;

export class EtcdMembers {
  private constructor(readonly servers: readonly EtcdServer[]) {}

  /**
   * Starts so many and waits until they are a cluster. They listen on an address of 127.0.0.0/8 that is this process's
   * own, so that their ports are free, then and after a restart.
   */
  static start(count: number, options: MemberOptions = {}): Promise<EtcdMembers> {
    const { pid } = process;
    const address = `127.${64 + (pid >> 16)}.${(pid >> 8) & 0xff}.${pid & 0xff}`;
    const places = Array.from({ length: count }, (_, index) => ({ address, port: FIRST_PORT + 2 * index }));
    return EtcdMembers.at(places, options);
  }

  /** Starts one at each place, and waits until they are a cluster. */
  static async at(places: readonly MemberPlace[], options: MemberOptions = {}): Promise<EtcdMembers> {
    const peers = Object.fromEntries(
      places.map(({ address, port }, index) => [`member${index}`, `http://${address}:${port + 1}`]),
    );
    const starts = await Promise.allSettled(
      places.map(({ address, port, namespace }, index) =>
        EtcdServer.start({
          addresses: [address],
          port,
          member: { name: `member${index}`, peers },
          ...(namespace === undefined
            ? {}
            : { spawn: (command, args, how) => spawn(...namespace.enter(command, args), how) }),
          ...options,
        }),
      ),
    );
    const members = new EtcdMembers(starts.flatMap((start) => (start.status === 'fulfilled' ? [start.value] : [])));
    for (const start of starts) {
      if (start.status === 'fulfilled') continue;
      await members.dispose();
      throw start.reason;
    }
    return members;
  }

  /** Has all of them follow one of them. */
  async lead(chosen: EtcdServer): Promise<void> {
    const { header } = await this.status(chosen);
    for (const deadline = Date.now() + LEADER_TIMEOUT_MS; ; await sleep(50)) {
      const statuses = await Promise.all(this.servers.map((server) => this.status(server)));
      if (statuses.every(({ leader }) => leader === header.member_id)) return;
      if (Date.now() > deadline) throw new Error('the members do not follow the one that was chosen');
      const leads = statuses.findIndex(({ header: { member_id }, leader }) => member_id === leader);
      // A refusal is tried again: a member must have caught up before it can lead.
      await this.servers[leads]
        ?.call('/v3/maintenance/transfer-leadership', { targetID: header.member_id })
        .catch(() => undefined);
    }
  }

  /** Waits until the others have a leader among themselves, without one that cannot reach them. */
  async leadWithout(lost: EtcdServer): Promise<void> {
    const { header } = await this.status(lost);
    const others = this.servers.filter((server) => server !== lost);
    for (const deadline = Date.now() + LEADER_TIMEOUT_MS; ; await sleep(50)) {
      const leaders = (await Promise.all(others.map((other) => this.status(other)))).map(({ leader = '0' }) => leader);
      if (leaders.every((leader) => leader !== '0' && leader !== header.member_id)) return;
      if (Date.now() > deadline) throw new Error('the other members have no leader');
    }
  }

  /** Ends them by force. */
  async dispose(): Promise<void> {
    await Promise.all(this.servers.map((server) => server.dispose()));
  }

  private async status(server: EtcdServer): Promise<MemberStatus> {
    return (await server.call('/v3/maintenance/status', {})) as unknown as MemberStatus;
  }
}
