import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Namespace } from '../../../src/lab/namespace.js';
import { namePrefix } from '../../harness/leftovers.js';
import { withNamespaces } from '../../harness/namespaces.js';

const MODULE = new URL('../../../src/host/sysctl.js', import.meta.url).href;

/** Settings are those of the namespace that the process runs in, so a process of its own asks. */
async function evaluate(n: Namespace, expression: string): Promise<unknown> {
  const script = `import * as sysctl from ${JSON.stringify(MODULE)};
    process.stdout.write(JSON.stringify(await ${expression}.catch((error) => error.message) ?? null));`;
  const { stdout } = await n.exec(process.execPath, ['--input-type=module', '-e', script]);
  return JSON.parse(stdout);
}

test('reads settings, and warns exactly when this machine does not forward', async () => {
  await withNamespaces(namePrefix('hsysctl'), ['n'], async ({ n }) => {
    await n.addBridge('eth0.5');
    await n.setSysctl('net.ipv4.ip_forward', 0);
    assert.equal(await evaluate(n, `sysctl.readSysctl('net.ipv4.ip_forward')`), '0');
    assert.match(String(await evaluate(n, 'sysctl.forwardingWarning()')), /sysctl -w net\.ipv4\.ip_forward=1/);
    await n.setSysctl('net.ipv4.ip_forward', 1);
    assert.equal(await evaluate(n, 'sysctl.forwardingWarning()'), null);
    assert.equal(await evaluate(n, `sysctl.readSysctl('net.ipv4.no_such_setting')`), null);
    // A dot inside a device's name is written as a slash.
    await n.setSysctl('net.ipv4.conf.eth0/5.proxy_arp', 1);
    assert.equal(await evaluate(n, `sysctl.readSysctl('net.ipv4.conf.eth0/5.proxy_arp')`), '1');
  });
});
