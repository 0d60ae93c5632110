/** What the agent costs while etcd is away, and how soon its table has what came in the gap when etcd is back. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Namespace } from '../../src/lab/namespace.js';
import { median } from '../../src/median.js';
import { Daemon } from '../../test/harness/daemon.js';
import { until } from '../../test/harness/until.js';
import { countProcessorTime } from '../cpu.js';
import type { Progress } from '../progress.js';
import { STORE_PORT, type Store } from '../site.js';
import { withPlace } from './place.js';
import { tableLeases } from './table.js';

export interface OutageOptions {
  /** Of each outage. */
  readonly seconds: number;
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

/** How etcd is away: rules before it, in its namespace. */
interface Outage {
  readonly name: string;
  /** `undefined`: it is not. */
  readonly rules?: string;
  /** The rules come and go, each for so long. */
  readonly flapMs?: number;
}

const PREFIX = '/bench/outage';
const DEAF_PORT = 2390;
/** Accepts, reads, and says nothing. */
const DEAF_SERVER = `require('node:net').createServer((socket) => socket.on('error', () => {}).resume()).listen(${DEAF_PORT})`;
const SETTLE_MS = 3_000;
/** Returns that are waited for after each kind of outage, of which one is the long one. */
const RETURNS = 6;

/** Nothing of what etcd has under way comes out, either; what becomes of what comes in, follows. */
const CUT_OFF =
  `chain output { type filter hook output priority 0; tcp sport ${STORE_PORT} drop; }\n` +
  'chain input { type filter hook input priority 0;';
const REFUSED = `${CUT_OFF} tcp dport ${STORE_PORT} reject with tcp reset; }`;
const OUTAGES: readonly Outage[] = [
  { name: 'there' },
  { name: 'refusing connections', rules: REFUSED },
  { name: 'black-holed', rules: `${CUT_OFF} tcp dport ${STORE_PORT} drop; }` },
  {
    name: 'accepting and silent',
    rules:
      `chain redirected { type nat hook prerouting priority -100; tcp dport ${STORE_PORT} redirect to :${DEAF_PORT}; }\n` +
      `${CUT_OFF} tcp dport ${STORE_PORT} drop; }`,
  },
  { name: 'there and refusing, a second each', rules: REFUSED, flapMs: 1_000 },
];

/** @returns lines for people */
export function measureOutage({ seconds, progress, signal }: OutageOptions): Promise<string[]> {
  return withPlace('outage', async ({ prefix, folder, store, cleanup }) => {
    const namespace = await Namespace.create(`${prefix}-node`);
    cleanup.push(() => namespace.remove());
    await store.connect(namespace);
    await store.etcd.put(`${PREFIX}/config`, JSON.stringify({ Network: '10.0.0.0/8', Backend: { Type: 'udp' } }));
    const deaf = store.spawn(process.execPath, ['-e', DEAF_SERVER]);
    cleanup.push(() => Promise.resolve(deaf.kill()));
    const daemon = new Daemon(namespace, folder, [
      ...[`--etcd-endpoints=${store.endpoint}`, `--etcd-prefix=${PREFIX}`, '--iface=mgmt0'],
      '--iptables-forward-rules=false',
    ]);
    cleanup.push(() => daemon.kill());
    await daemon.ready();

    let written = 0;
    const lines: string[] = [];
    for (const outage of OUTAGES) {
      const returns: number[] = [];
      let share = 0;
      for (let turn = 0; turn < (outage.rules === undefined ? 1 : RETURNS); turn++) {
        signal.throwIfAborted();
        progress.show(`etcd is ${outage.name}, ${turn + 1} of ${RETURNS}`);
        await sleep(SETTLE_MS, undefined, { signal });
        const count = countProcessorTime([daemon.pid]);
        const startedAtMs = performance.now();
        // The short ones end at different moments of the agent's pauses.
        const lastsMs = turn === 0 ? seconds * 1000 : 2_000 + 1_130 * turn;
        await endure(store, outage, { lastsMs, signal, lastBegins: () => putLease(store, ++written) });
        const backAtMs = performance.now();
        if (turn === 0) share = (count().agentSeconds * 1000) / (backAtMs - startedAtMs);
        await until('the table is right', async () => (await tableLeases(daemon)) === written, { everyMs: 5 });
        returns.push(performance.now() - backAtMs);
      }
      const percent = `${(share * 100).toFixed(1)} % of a core`;
      const back =
        outage.rules === undefined
          ? ''
          : `; back, the table is right after ${Math.round(median(returns))} ms (median of ${RETURNS}), at most ` +
            `${Math.round(Math.max(...returns))} ms`;
      lines.push(`etcd ${outage.name} for ${seconds} s: the agent uses ${percent}${back}`);
    }
    return lines;
  });
}

interface Endurance {
  readonly lastsMs: number;
  readonly signal: AbortSignal;
  /** Called when etcd has just gone for the last time. */
  readonly lastBegins: () => Promise<void>;
}

/** Has etcd be away for so long; it is there afterwards. */
async function endure(store: Store, { rules, flapMs }: Outage, endurance: Endurance): Promise<void> {
  const { lastsMs, signal, lastBegins } = endurance;
  if (rules === undefined) {
    await lastBegins();
    return sleep(lastsMs, undefined, { signal });
  }
  for (const endMs = performance.now() + lastsMs; ;) {
    await store.nft(`table ip outage {\n${rules}\n}\n`);
    const last = flapMs === undefined || performance.now() + 3 * flapMs > endMs;
    if (last) await lastBegins();
    await sleep(flapMs ?? lastsMs, undefined, { signal });
    await store.nft('delete table ip outage\n');
    if (last) return;
    await sleep(flapMs, undefined, { signal });
  }
}

/** Writes a lease, past whatever stands before etcd. */
function putLease(store: Store, number: number): Promise<void> {
  const value = JSON.stringify({ PublicIP: `172.16.0.${number}`, PublicIPv6: null });
  return store.etcd.put(`${PREFIX}/subnets/10.200.${number}.0-24`, value);
}
