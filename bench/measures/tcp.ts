import { countProcessorTime } from '../cpu.js';
import type { Figure } from '../results.js';
import { runIperf } from './iperf.js';
import { costPerGigabyte, TCP_COST_FIGURES, type Measure } from './measure.js';

const THROUGHPUT: Figure = {
  name: 'gbits',
  title: 'throughput',
  unit: 'Gbit/s',
  heading: 'Gbit/s',
  better: 'higher',
  compared: true,
};

interface TcpOptions {
  readonly name: string;
  readonly title: string;
  readonly single: boolean;
  readonly both: boolean;
}

function tcpMeasure({ name, title, single, both }: TcpOptions): Measure {
  return {
    name,
    title,
    figures: [THROUGHPUT, ...TCP_COST_FIGURES],
    async run({ path, agents }, { seconds, streams }) {
      const cost = countProcessorTime(agents);
      const { bytes, bitsPerSecond } = await runIperf(path, { seconds, streams: single ? 1 : streams, both });
      return { gbits: bitsPerSecond / 1e9, ...costPerGigabyte(cost(), bytes) };
    },
  };
}

export const TCP_MEASURES: readonly Measure[] = [
  tcpMeasure({ name: 'tcp', title: 'TCP, one stream', single: true, both: false }),
  tcpMeasure({ name: 'tcp-streams', title: 'TCP, several streams', single: false, both: false }),
  tcpMeasure({ name: 'tcp-both', title: 'TCP, several streams each way', single: false, both: true }),
];
