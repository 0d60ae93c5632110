import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';

import { MessageChannel } from '../../../src/dataplane/message-channel.js';
import { closeFd } from '../../../src/dataplane/native.js';
import { HandoverServer, type Estate } from '../../../src/flanneld/handover.js';
import { silentLogger } from '../../../src/log.js';
import { until } from '../../harness/until.js';

const PREFIX = '/network';
const WITHIN_MS = 60_000;

describe('a running agent that another asks to make room', () => {
  let folder: string;
  let server: HandoverServer;
  let done: string[];
  let warnings: string[];
  let channels: MessageChannel[];
  /** What parking its workers takes. */
  let parking: () => Promise<void>;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'handover-'));
    [done, warnings, channels] = [[], [], []];
    parking = () => Promise.resolve();
    const estate: Estate = {
      prefix: PREFIX,
      unfit: () => undefined,
      snapshot: () => 'what it knows',
      descriptors: () => [],
      park() {
        done.push('park');
        return parking();
      },
      resume() {
        done.push('resume');
        return Promise.resolve();
      },
      leave: (taken) => done.push(taken ? 'leave to another' : 'leave'),
    };
    const logger = { ...silentLogger, warn: (line: string) => warnings.push(line) };
    server = new HandoverServer(join(folder, 'handover'), estate, logger);
  });

  afterEach(() => {
    for (const channel of channels) channel.close();
    server.close();
    rmSync(folder, { recursive: true });
  });

  function connect(): MessageChannel {
    const channel = MessageChannel.connect(join(folder, 'handover'));
    channels.push(channel);
    return channel;
  }

  async function answerOf(channel: MessageChannel): Promise<{ type: string; reason?: string }> {
    const message = await channel.receive(WITHIN_MS);
    assert.ok(message, 'no answer came');
    message.fds.forEach(closeFd);
    return JSON.parse(message.text) as { type: string; reason?: string };
  }

  async function ask(): Promise<{ channel: MessageChannel; answer: { type: string; reason?: string } }> {
    const channel = connect();
    channel.send(JSON.stringify({ type: 'take-over', version: 1, prefix: PREFIX }));
    return { channel, answer: await answerOf(channel) };
  }

  test('leaves when the other one runs', async () => {
    const { channel, answer } = await ask();
    assert.equal(answer.type, 'offer');
    channel.send(JSON.stringify({ type: 'ready' }));
    assert.equal((await answerOf(channel)).type, 'parked');
    channel.send(JSON.stringify({ type: 'running' }));
    await until('it leaves', () => Promise.resolve(done.includes('leave to another')));
    assert.deepEqual(done, ['park', 'leave to another']);
  });

  test('goes on when the other one ends while the workers are being parked', async () => {
    const { channel } = await ask();
    parking = () => {
      channel.close();
      return Promise.resolve();
    };
    channel.send(JSON.stringify({ type: 'ready' }));
    await until('its workers go on', () => Promise.resolve(done.includes('resume') && warnings.length > 0));
    assert.deepEqual(done, ['park', 'resume']);
    assert.match(warnings.join('\n'), /^not taken over: .*; going on$/);
  });

  test('goes on when its workers cannot be parked', async () => {
    const { channel } = await ask();
    parking = () => Promise.reject(new Error('a worker has failed'));
    channel.send(JSON.stringify({ type: 'ready' }));
    await until('it says so', () => Promise.resolve(warnings.length > 0));
    assert.deepEqual(done, ['park', 'resume']);
    assert.deepEqual(warnings, ['not taken over: a worker has failed; going on']);
  });

  test('makes room for one at a time, however many ask', async () => {
    const { channel } = await ask();
    for (let asked = 0; asked < 3; asked++) {
      assert.deepEqual((await ask()).answer, { type: 'refused', reason: 'another one is taking over' });
    }
    channel.close();
    await until('the first is given up', () => Promise.resolve(warnings.length > 0));
    assert.equal((await ask()).answer.type, 'offer');
  });

  test('of two that ask at once makes room for one', async () => {
    const answers = await Promise.all([ask(), ask()]);
    assert.deepEqual(answers.map(({ answer }) => answer.type).sort(), ['offer', 'refused']);
  });

  test('serves its own network only', async () => {
    const channel = connect();
    channel.send(JSON.stringify({ type: 'take-over', version: 1, prefix: '/other' }));
    assert.deepEqual(await answerOf(channel), { type: 'refused', reason: `it serves the network at ${PREFIX}` });
  });
});
