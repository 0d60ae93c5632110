import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';

import { MessageChannel, MessageListener } from '../../../src/dataplane/message-channel.js';
import { closeFd, openWakeup, signalWakeup } from '../../../src/dataplane/native.js';
import { HandoverServer, Predecessor, type Estate } from '../../../src/flanneld/handover.js';
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
  /** Why it does not make room. */
  let unfit: string | undefined;
  /** What parking its workers takes. */
  let parking: () => Promise<void>;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'handover-'));
    [done, warnings, channels] = [[], [], []];
    unfit = undefined;
    parking = () => Promise.resolve();
    const estate: Estate = {
      prefix: PREFIX,
      unfit: () => unfit,
      ending: () => unfit === 'stopping',
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
    channel.send(JSON.stringify({ type: 'take-over', version: 2, prefix: PREFIX }));
    return { channel, answer: await answerOf(channel) };
  }

  test('leaves when the other one runs', async () => {
    const { channel, answer } = await ask();
    assert.equal(answer.type, 'offer');
    channel.send(JSON.stringify({ type: 'ready' }));
    assert.equal((await answerOf(channel)).type, 'parked');
    channel.send(JSON.stringify({ type: 'running' }));
    assert.equal((await answerOf(channel)).type, 'leave');
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

  test('that is stopping says so, and its end tells when it is over', async () => {
    unfit = 'stopping';
    const { channel, answer } = await ask();
    assert.deepEqual(answer, { type: 'refused', reason: 'stopping', ending: true });
    assert.ok(!channel.ended);
  });

  test('serves its own network only', async () => {
    const channel = connect();
    channel.send(JSON.stringify({ type: 'take-over', version: 2, prefix: '/other' }));
    assert.deepEqual(await answerOf(channel), { type: 'refused', reason: `it serves the network at ${PREFIX}` });
  });

  test('goes on when the other one hangs with the token in its hand, which learns of it and ends', async () => {
    const predecessor = await Predecessor.ask(join(folder, 'handover'), PREFIX, silentLogger);
    assert.ok(predecessor);
    assert.equal(predecessor.snapshot, 'what it knows');
    await predecessor.makeRoom();
    await until('its workers go on', () => done.includes('resume'));
    await until('it says so', () => warnings.length > 0);
    assert.deepEqual(warnings, ['not taken over: the other one does not run in time; going on']);
    await assert.rejects(predecessor.running(), /cannot take over .*: it was told too late, and goes on/);
    assert.deepEqual(done, ['park', 'resume']);
  });

  test('goes on when the other one gives up with the token in its hand', async () => {
    const predecessor = await Predecessor.ask(join(folder, 'handover'), PREFIX, silentLogger);
    await predecessor?.makeRoom();
    await assert.rejects(async () => predecessor?.leave(), /cannot take over .*: packets could not be made to flow/);
    await until('its workers go on', () => done.includes('resume'));
    assert.deepEqual(done, ['park', 'resume']);
  });
});

describe('the next agent', () => {
  let folder: string;
  let path: string;
  let lines: string[];
  const logger = {
    ...silentLogger,
    info: (line: string) => lines.push(line),
    warn: (line: string) => lines.push(line),
  };

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'handover-'));
    path = join(folder, 'handover');
    lines = [];
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  /** Plays a running agent: what it says in turn, each after a message of the other one. */
  function playRunning(version: number, ...answers: string[]): { heard: string[]; end: () => void } {
    const heard: string[] = [];
    const token = openWakeup();
    const snapshot = openSync('/dev/null', 'r');
    const listener = new MessageListener(path, (channel) => void serve(channel));
    const serve = async (channel: MessageChannel): Promise<void> => {
      const hear = async (): Promise<void> => {
        const message = await channel.receive(WITHIN_MS);
        heard.push((JSON.parse(message?.text ?? '{"type":"nothing"}') as { type: string }).type);
      };
      await hear();
      channel.send(JSON.stringify({ type: 'offer', version, names: ['snapshot', 'token'] }), [snapshot, token]);
      for (const type of answers) {
        await hear();
        if (type === 'parked') signalWakeup(token);
        channel.send(JSON.stringify({ type }));
      }
      if (answers.length === 0) await hear();
      channel.close();
    };
    const end = (): void => {
      listener.close();
      closeFd(token);
      closeSync(snapshot);
    };
    return { heard, end };
  }

  test('ignores with one line what is of another version, has the running one end, and starts from nothing', async () => {
    const { heard, end } = playRunning(99);
    try {
      assert.equal(await Predecessor.ask(path, PREFIX, logger), undefined);
      assert.deepEqual(heard, ['take-over', 'leave']);
      assert.equal(lines.length, 1);
      assert.match(lines[0], /of version 99, and this release reads \d+: it is ignored/);
    } finally {
      end();
    }
  });

  test('says that nobody is there to take over from', async () => {
    assert.equal(await Predecessor.ask(path, PREFIX, logger), undefined);
    assert.deepEqual(lines, ['there is nobody to take over from: starting as ever']);
  });

  test('waits for the end of one that is stopping, and starts as ever', async () => {
    let ended = false;
    const listener = new MessageListener(path, (channel) => {
      channel.send('{"type":"refused","reason":"stopping","ending":true}');
      void until('it is asked to take over', async () => (await channel.receive(WITHIN_MS)) !== undefined).then(() => {
        ended = true;
        channel.close();
      });
    });
    try {
      assert.equal(await Predecessor.ask(path, PREFIX, logger), undefined);
      assert.ok(ended);
      assert.deepEqual(lines, ['the running flanneld is stopping: starting as ever when it has ended']);
    } finally {
      listener.close();
    }
  });

  test('runs on when the one before has died before it could say that it leaves', async () => {
    const { heard, end } = playRunning(2, 'parked');
    const predecessor = await Predecessor.ask(path, PREFIX, logger);
    await predecessor?.makeRoom();
    end();
    await predecessor?.running();
    await predecessor?.ended();
    assert.deepEqual(heard, ['take-over', 'ready']);
  });
});
