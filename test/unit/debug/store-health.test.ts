/** What stands where the doctor asks for etcd's health, and is no etcd. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { probeStore } from '../../../src/debug/doctor/probe-store.js';

const cases: readonly (readonly [body: string, health: object])[] = [
  ['{"health":"true"}', { known: true, value: { healthy: true, reason: undefined } }],
  ['{"health":"false","reason":"ALARM NOSPACE"}', { known: true, value: { healthy: false, reason: 'ALARM NOSPACE' } }],
  ['{"health":false,"reason":{}}', { known: true, value: { healthy: false, reason: undefined } }],
  ...['', 'null', '[]', '"true"', '<html>', '{"status":"UP"}'].map(
    (body) => [body, { known: false, why: 'what answers under /health is no etcd' }] as const,
  ),
];
for (const [body, health] of cases) {
  test(`of ${body === '' ? 'nothing' : body} the doctor knows what it is`, async () => {
    const server = createServer((_request, response) => response.end(body));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    try {
      const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
      const { readMs, servers } = await probeStore({ endpoints: [endpoint], prefix: '/coreos.com/network' });
      assert.equal(readMs.known, false);
      assert.deepEqual(servers[0].health, health);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });
}
