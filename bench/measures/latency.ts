import { setTimeout as sleep } from 'node:timers/promises';
import { FlannelError } from '../../src/errors.js';
import type { Figure } from '../results.js';
import type { RunningContender } from '../running-contender.js';
import { ask, startEcho } from '../traffic.js';
import { runIperf } from './iperf.js';
import type { Measure } from './measure.js';

const PORT = 5200;
/** Payload of a question and of its answer, in bytes. */
const SIZE = 64;
/** Long enough that whoever waits for packets has gone to sleep when the next question comes. */
const GAP_MICROSECONDS = 1_000;
/** The stream begins before the questions and ends after them. */
const HEAD_START_MS = 500;
const STREAM_EXTRA_SECONDS = 1;

function timeFigure(name: string, title: string, heading: string): Figure {
  return { name, title, unit: 'µs', heading, better: 'lower', compared: true };
}

const MEDIAN = timeFigure('medianMicroseconds', 'median', 'median, µs');
const P99 = timeFigure('p99Microseconds', '99 of 100 within', 'p99, µs');

async function roundTrips({ path: { from, to } }: RunningContender, seconds: number) {
  const stopEcho = await startEcho(to, PORT);
  try {
    const { asked, answered, median, p99 } = await ask(from.namespace, to.address, {
      port: PORT,
      size: SIZE,
      seconds,
      gap: GAP_MICROSECONDS,
    });
    if (answered === 0) throw new FlannelError('LAB', `none of ${asked} questions was answered`);
    return { medianMicroseconds: median * 1e6, p99Microseconds: p99 * 1e6 };
  } finally {
    await stopEcho();
  }
}

export const LATENCY_MEASURES: readonly Measure[] = [
  {
    name: 'latency-idle',
    title: 'Round trip of a datagram, nothing else going on',
    figures: [MEDIAN, P99],
    run: (contender, { seconds }) => roundTrips(contender, seconds),
  },
  {
    name: 'latency-loaded',
    title: 'Round trip of a datagram beside a TCP stream',
    figures: [P99, MEDIAN],
    async run(contender, { seconds }) {
      const stream = runIperf(contender.path, { seconds: seconds + STREAM_EXTRA_SECONDS, streams: 1, both: false });
      // Its failure is seen below; here it only must not end the program.
      stream.catch(() => undefined);
      await sleep(HEAD_START_MS);
      const figures = await roundTrips(contender, seconds);
      await stream;
      return figures;
    },
  },
];
