/**
 * The benchmark from end to end, as short as it gets. What it measures here says nothing; that it measures does.
 *
 * Runs alone: it floods, and others would lose packets by it.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Results } from '../../../bench/results.js';
import { ROOT } from '../../harness/daemon.js';
import { until } from '../../harness/until.js';

const MAIN = join(ROOT, 'dist/bench/main.js');

interface Ending {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface Running {
  readonly pid: number;
  readonly said: () => string;
  readonly interrupt: () => void;
  readonly ended: Promise<Ending>;
}

function start(args: readonly string[]): Running {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  return {
    pid: child.pid ?? 0,
    said: () => stderr,
    interrupt: () => void child.kill('SIGINT'),
    ended: new Promise((resolve) => child.once('close', (status) => resolve({ status, stdout, stderr }))),
  };
}

/** Namespaces that a run has made. */
function namespacesOf(pid: number): string[] {
  if (!existsSync('/run/netns')) return [];
  return readdirSync('/run/netns').filter((name) => name.includes(`-${pid}-`));
}

describe('npm run bench', () => {
  let folder: string;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'bench-test-'));
  });

  after(() => rm(folder, { recursive: true, force: true }));

  test('measures each contender, prints a table, writes results and plots, and leaves nothing behind', async () => {
    const running = start([
      ...['--contenders', 'flannelette,vxlan', '--measure', 'tcp,udp-64,latency-idle,subnets-250', '--mode', 'wire'],
      ...['--rounds', '1', '--seconds', '1', '--output', folder],
    ]);
    const { status, stdout, stderr } = await running.ended;
    assert.equal(status, 0, stderr);
    assert.deepEqual(namespacesOf(running.pid), []);

    const results = JSON.parse(readFileSync(join(folder, 'results.json'), 'utf8')) as Results;
    assert.deepEqual(
      results.contenders.map(({ name, mtuBytes }) => [name, mtuBytes]),
      [
        ['flannelette', 1472],
        ['vxlan', 1450],
      ],
    );
    assert.ok(results.contenders[0].offloads?.some(({ name }) => name === 'udp-segment'));
    // The cable is in the mode that was asked for.
    assert.equal(results.modes.length, 1);
    assert.equal(results.modes[0].offloads.tso, 'off');
    assert.equal(results.modes[0].offloads.gro, 'on');
    const taken = results.samples.map(({ measure, contender }) => `${measure} ${contender}`);
    const measures = ['tcp', 'udp-64', 'latency-idle'];
    assert.deepEqual(
      taken,
      // Only an agent with etcd can be told of nodes that are not there.
      [...measures.flatMap((measure) => [`${measure} flannelette`, `${measure} vxlan`]), 'subnets-250 flannelette'],
    );
    for (const { measure, contender, figures = {} } of results.samples) {
      const main = results.measures.find(({ name }) => name === measure)?.figures[0].name ?? '';
      assert.ok(figures[main] > 0, `${measure} ${contender}: ${JSON.stringify(figures)}`);
    }
    // An agent's processor time is its own; the kernel's dataplane has no agent.
    const cost = (contender: string): number | undefined =>
      results.samples.find((sample) => sample.measure === 'tcp' && sample.contender === contender)?.figures
        ?.agentSecondsPerGB;
    assert.ok((cost('flannelette') ?? 0) > 0);
    assert.equal(cost('vxlan'), 0);

    assert.match(stdout, /kernel VXLAN +1450 +[\d.,]+ +1\.00 ×/);
    assert.match(stderr, /7\/7 {2}round 1\/1 {2}wire {2}subnets-250 {2}flannelette/);
    for (const measure of measures) assert.ok(existsSync(join(folder, `${measure}.svg`)), measure);
    assert.match(readFileSync(join(folder, 'report.md'), 'utf8'), /eth0: tso off/);
  });

  test('an interrupted run takes its namespaces with it', async () => {
    const elsewhere = join(folder, 'interrupted');
    const running = start(['--contenders', 'flannelette', '--measure', 'tcp', '--seconds', '1', '--output', elsewhere]);
    await until('the first measurement begins', () => running.said().includes('1/15'));
    assert.notDeepEqual(namespacesOf(running.pid), []);
    running.interrupt();
    const { status, stderr } = await running.ended;
    assert.equal(status, 130);
    assert.match(stderr, /^bench: interrupted; its namespaces are removed$/m);
    assert.deepEqual(namespacesOf(running.pid), []);
  });
});
