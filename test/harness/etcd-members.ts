/**
 * Several real etcd servers that are one cluster. They listen on an address of 127.0.0.0/8 that is this process's own, so
 * that their ports are free, then and after a restart.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { EtcdServer } from '../../src/lab/etcd-server.js';
import type { EtcdServerOptions } from '../../src/lab/etcd-server.js';

/** Below those that the kernel gives to clients; two for each member. */
const FIRST_PORT = 21_379;
const LEADER_TIMEOUT_MS = 30_000;

interface MemberStatus {
  readonly header: { readonly member_id: string };
  readonly leader?: string;
}

export class EtcdMembers {
  private constructor(readonly servers: readonly EtcdServer[]) {}

  /** Starts them all, and waits until they are a cluster. */
  static async start(count: number, options: Pick<EtcdServerOptions, 'extraArguments'> = {}): Promise<EtcdMembers> {
    const { pid } = process;
    const address = `127.${64 + (pid >> 16)}.${(pid >> 8) & 0xff}.${pid & 0xff}`;
    const ports = Array.from({ length: count }, (_, index) => FIRST_PORT + 2 * index);
    const peers = Object.fromEntries(ports.map((port, index) => [`member${index}`, `http://${address}:${port + 1}`]));
    const starts = await Promise.allSettled(
      ports.map((port, index) =>
        EtcdServer.start({ addresses: [address], port, member: { name: `member${index}`, peers }, ...options }),
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

  /** Has the others follow one of them. */
  async lead(chosen: EtcdServer): Promise<void> {
    for (const deadline = Date.now() + LEADER_TIMEOUT_MS; ; await sleep(50)) {
      const { header, leader } = await this.status(chosen);
      if (header.member_id === leader) return;
      if (Date.now() > deadline) throw new Error('the members do not follow the one that was chosen');
      for (const other of this.servers) {
        const { header: others } = await this.status(other);
        if (others.member_id !== leader) continue;
        // A refusal is tried again: a member must have caught up before it can lead.
        await other.call('/v3/maintenance/transfer-leadership', { targetID: header.member_id }).catch(() => undefined);
      }
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
