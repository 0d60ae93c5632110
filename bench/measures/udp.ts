import { FlannelError } from '../../src/errors.js';
import { countProcessorTime } from '../cpu.js';
import type { Figure } from '../results.js';
import { flood, startCounting, type CountReport, type FloodReport } from '../traffic.js';
import type { Measure } from './measure.js';

const PORT = 5300;
const MANY_FLOWS = 64;

export const UDP_FIGURES: readonly Figure[] = [
  {
    name: 'received',
    title: 'received',
    unit: 'datagrams/s',
    heading: 'datagrams/s',
    better: 'higher',
    compared: true,
  },
  {
    name: 'lossPercent',
    title: 'lost of what was sent',
    unit: '%',
    heading: 'lost, %',
    better: 'lower',
    compared: false,
  },
  {
    name: 'reordered',
    title: 'out of order within a flow',
    unit: 'datagrams',
    heading: 'out of order',
    better: 'lower',
    compared: false,
  },
  {
    name: 'machineMicroseconds',
    title: 'CPU of the whole machine',
    unit: 'CPU-µs/datagram',
    heading: 'CPU-µs each',
    better: 'lower',
    compared: true,
  },
  {
    name: 'agentMicroseconds',
    title: 'CPU of the agents',
    unit: 'CPU-µs/datagram',
    heading: "agents' CPU-µs each",
    better: 'lower',
    compared: false,
  },
];

/** A flood of datagrams of `size` bytes; what arrives of it counts. */
function udpMeasure(size: number, flows: number): Measure {
  const bytes = size.toLocaleString('en');
  return {
    name: flows === 1 ? `udp-${size}` : `udp-${size}-flows`,
    title: `UDP flood, ${bytes} bytes, ${flows === 1 ? 'one flow' : `${flows} flows`}`,
    figures: UDP_FIGURES,
    run: ({ path: { from, to }, agents }, { seconds }) =>
      measureFlood(
        agents,
        () => startCounting(to, { port: PORT, ports: flows, flows }),
        () => flood(from.namespace, to.address, { port: PORT, size, flows, seconds }),
      ),
  };
}

/** Sends a flood while it is counted, and makes {@link UDP_FIGURES} of it. @throws FlannelError when nothing arrives */
export async function measureFlood(
  agents: readonly number[],
  count: () => Promise<() => Promise<CountReport>>,
  send: () => Promise<FloodReport>,
): Promise<Record<string, number>> {
  const stopCounting = await count();
  const stopCost = countProcessorTime(agents);
  const { sent, seconds: sending } = await send();
  const { received, reordered, seconds: arriving } = await stopCounting();
  const { machineSeconds, agentSeconds } = stopCost();
  if (received === 0) throw new FlannelError('LAB', `none of ${sent} datagrams arrived`);
  return {
    received: received / Math.max(sending, arriving),
    lossPercent: Math.max(0, 1 - received / sent) * 100,
    reordered,
    machineMicroseconds: (machineSeconds / received) * 1e6,
    agentMicroseconds: (agentSeconds / received) * 1e6,
  };
}

export const UDP_MEASURES: readonly Measure[] = [
  udpMeasure(64, 1),
  udpMeasure(64, MANY_FLOWS),
  udpMeasure(1400, 1),
  udpMeasure(1400, MANY_FLOWS),
];
