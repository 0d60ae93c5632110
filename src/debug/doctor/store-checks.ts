/** etcd: whether it answers, how fast, and what its clock says. */
import { fail, ok, skip, warn, type Finding } from './check.js';
import type { NodeFacts } from './facts.js';

/** flanneld asks for little, so that only a store in trouble is slower. */
const SLOW_READ_MS = 500;
const NOTABLE_SKEW_SECONDS = 5;

/** The first of flannel's two default endpoints, etcd's port of before version 2.1, where nothing listens today. */
const OLD_DEFAULT_ENDPOINT = 'http://127.0.0.1:4001';

export function checkEtcd({ store }: Pick<NodeFacts, 'store'>): Finding {
  if (!store.known) return fail(store.why, 'see --etcd-endpoints and the other --etcd flags');
  const { readMs, servers } = store.value;
  const evidence = servers.map(({ endpoint, health }) => {
    if (!health.known) return `${endpoint}: ${health.why}`;
    return `${endpoint}: ${health.value.healthy ? 'healthy' : `not healthy: ${health.value.reason ?? 'it does not say why'}`}`;
  });
  if (!readMs.known) {
    return fail(
      readMs.why,
      'packets flow by what the agents know, but no lease is renewed or learnt: see docs/troubleshooting.md, "etcd"',
      evidence,
    );
  }
  const took = `a read takes ${readMs.value.toFixed(0)} ms`;
  const sick = servers.filter(
    ({ endpoint, health }) => (!health.known || !health.value.healthy) && endpoint !== OLD_DEFAULT_ENDPOINT,
  );
  if (sick.length > 0) {
    const who = sick.map(({ endpoint }) => endpoint).join(', ');
    return warn(
      `etcd answers (${took}), but not every server is well: ${who}`,
      'etcdctl endpoint health, endpoint status, alarm list',
      evidence,
    );
  }
  if (readMs.value > SLOW_READ_MS) {
    return warn(`etcd is slow: ${took}`, 'its disk or its network is: etcdctl check perf', evidence);
  }
  return ok(`etcd is healthy, ${took}`, evidence);
}

export function checkClock({ store }: Pick<NodeFacts, 'store'>): Finding {
  if (!store.known) return skip('etcd does not answer');
  const told = store.value.servers.flatMap(({ endpoint, clock }) =>
    clock.known ? [{ endpoint, ...clock.value }] : [],
  );
  if (told.length === 0) {
    const why = store.value.servers.map(({ clock }) => (clock.known ? '' : clock.why)).find((text) => text !== '');
    return skip(`no etcd server told its time over HTTP: ${why ?? 'none was asked'}`);
  }
  const evidence = told.map(
    ({ endpoint, aheadSeconds, uncertaintySeconds }) =>
      `${endpoint}: this clock is ${aheadSeconds.toFixed(1)} s ahead, ± ${uncertaintySeconds.toFixed(1)} s`,
  );
  const [worst] = told.sort((a, b) => Math.abs(b.aheadSeconds) - Math.abs(a.aheadSeconds));
  if (Math.abs(worst.aheadSeconds) - worst.uncertaintySeconds > NOTABLE_SKEW_SECONDS) {
    const where = worst.aheadSeconds > 0 ? 'ahead of' : 'behind';
    return warn(
      `the clock here is ${Math.abs(worst.aheadSeconds).toFixed(0)} s ${where} that of ${worst.endpoint}`,
      'keep both by NTP: the expiry of leases in the output, logs and TLS certificates depend on the time',
      evidence,
    );
  }
  return ok(`the clocks here and at etcd agree within ${NOTABLE_SKEW_SECONDS} s`, evidence);
}
