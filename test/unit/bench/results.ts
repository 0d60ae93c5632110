/** Results as a run would have them, for tests of what is made of them. */
import { MEASURES } from '../../../bench/measures/index.js';
import { RESULTS_FORMAT, type Results, type Sample } from '../../../bench/results.js';

/** Three rounds of TCP, each a different speed of the machine, with the same ratios; nebula failed once. */
export const SAMPLES: readonly Sample[] = [1, 2, 4].flatMap((speed, index): Sample[] => {
  const place = { mode: 'offloads', measure: 'tcp', round: index + 1 };
  return [
    {
      ...place,
      contender: 'flannelette',
      figures: { gbits: 3 * speed, machineSecondsPerGB: 2 / speed, agentSecondsPerGB: 1 / speed },
    },
    {
      ...place,
      contender: 'vxlan',
      figures: { gbits: 4 * speed, machineSecondsPerGB: 1 / speed, agentSecondsPerGB: 0 },
    },
    index === 1
      ? { ...place, contender: 'nebula', error: 'nothing arrived <&>' }
      : {
          ...place,
          contender: 'nebula',
          figures: { gbits: 0.4 * speed, machineSecondsPerGB: 20, agentSecondsPerGB: 15 },
        },
  ];
});

export const RESULTS: Results = {
  format: RESULTS_FORMAT,
  startedAt: '2026-01-02T10:00:00.000Z',
  endedAt: '2026-01-02T11:00:00.000Z',
  version: '1.2.3',
  machine: {
    kernel: '6.1.0',
    architecture: 'x64',
    cpu: 'A Processor',
    processors: 2,
    memoryGiB: 8,
    node: '20.1.0',
    otherLoadPercent: 3,
  },
  underlayMtuBytes: 1500,
  from: 'pod',
  seconds: 3,
  streams: 8,
  modes: [{ name: 'offloads', title: 'offloads on', offloads: { tso: 'on', gro: 'off' } }],
  measures: MEASURES.filter(({ name }) => name === 'tcp').map(({ name, title, figures }) => ({ name, title, figures })),
  contenders: [
    {
      name: 'flannelette',
      title: 'flannelette',
      mtuBytes: 1472,
      offloads: [
        { name: 'tun-tso', state: 'on', stepDowns: 0 },
        { name: 'udp-segment', state: 'on', stepDowns: 2 },
        { name: 'tun-uso', state: 'off', reason: 'an old kernel', stepDowns: 0 },
      ],
    },
    { name: 'vxlan', title: 'kernel VXLAN', mtuBytes: 1450 },
    { name: 'nebula', title: 'nebula <encrypts>', mtuBytes: 1440 },
  ],
  samples: SAMPLES,
};
