import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CommandError, type RunCommand } from '../../../src/host/command.js';
import { Firewall } from '../../../src/host/firewall/firewall.js';
import { silentLogger } from '../../../src/log.js';

const SETTINGS = {
  network: { address: 0x0a050000, length: 16 },
  subnet: { address: 0x0a052200, length: 24 },
  masquerade: true,
  forward: false,
  fullyRandom: true,
  nftables: false,
};

/** An iptables that holds nothing and refuses input that matches, as an old one refuses an option it does not know. */
function refusing(pattern: RegExp): { run: RunCommand; accepted: string[] } {
  const accepted: string[] = [];
  const run: RunCommand = (command, _args, options) => {
    const result = { stdout: '', stderr: '', status: 0 };
    if (command === 'nft') return Promise.reject(new CommandError('no nft', 'missing', { ...result, status: 127 }));
    if (command === 'iptables-restore') {
      if (pattern.test(options?.input ?? '')) {
        return Promise.reject(
          new CommandError('`iptables-restore` failed: line 6', 'failed', { ...result, status: 2 }),
        );
      }
      accepted.push(options?.input ?? '');
    }
    return Promise.resolve(result);
  };
  return { run, accepted };
}

test('where ports cannot be chosen fully at random, the rules go in without', async () => {
  const { run, accepted } = refusing(/--random-fully/);
  const firewall = await Firewall.open(SETTINGS, silentLogger, run);
  assert.equal((await firewall.ensure()).added, 6);
  assert.equal(accepted.length, 1);
  assert.match(accepted[0], /-j MASQUERADE\n/);
});

test('where nothing helps, the tool’s own complaint is told', async () => {
  const { run } = refusing(/MASQUERADE/);
  const firewall = await Firewall.open(SETTINGS, silentLogger, run);
  await assert.rejects(firewall.ensure(), { code: 'HOST', message: '`iptables-restore` failed: line 6' });
});
