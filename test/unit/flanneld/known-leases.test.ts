import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import type { RunningBackend } from '../../../src/backend/backend.js';
import { KnownLeases } from '../../../src/flanneld/known-leases.js';
import { formatPrefix, parseIpv4, parsePrefix } from '../../../src/packet/address.js';
import type { Lease } from '../../../src/subnet/lease.js';

function lease(subnet: string, publicIp: string): Lease {
  return {
    subnet: parsePrefix(subnet) ?? assert.fail(subnet),
    publicIp: parseIpv4(publicIp) ?? assert.fail(publicIp),
    publicIpv6: null,
    backendType: '',
    reserved: false,
  };
}

function recorder(): { calls: string[]; backend: RunningBackend } {
  const calls: string[] = [];
  const shown = (leases: readonly Lease[]): string => leases.map(({ subnet }) => formatPrefix(subnet)).join(' ');
  const backend = {
    setLeases: (leases: readonly Lease[]) => calls.push(`set ${shown(leases)}`),
    changeLeases: (changed: readonly Lease[], removed: Lease['subnet'][]) =>
      calls.push(`change ${shown(changed)} - ${removed.map(formatPrefix).join(' ')}`),
  } as unknown as RunningBackend;
  return { calls, backend };
}

const A = lease('10.5.1.0/24', '192.0.2.1');
const B = lease('10.5.2.0/24', '192.0.2.2');
const C = lease('10.5.3.0/24', '192.0.2.3');

describe('the known leases', () => {
  test('are given to a backend that starts later, as they are by then', () => {
    const leases = new KnownLeases();
    const { calls, backend } = recorder();
    leases.snapshot([A, B]);
    leases.change([C], [A.subnet]);
    leases.attach(backend);
    leases.change([A], [B.subnet]);
    leases.snapshot([A]);
    assert.deepEqual(calls, ['set 10.5.2.0/24 10.5.3.0/24', 'change 10.5.1.0/24 - 10.5.2.0/24', 'set 10.5.1.0/24']);
    assert.equal(leases.size, 1);
  });

  test('are given to a backend that starts earlier, once they are known', () => {
    const leases = new KnownLeases();
    const { calls, backend } = recorder();
    leases.attach(backend);
    assert.deepEqual(calls, []);
    leases.snapshot([]);
    assert.deepEqual(calls, ['set ']);
  });
});
