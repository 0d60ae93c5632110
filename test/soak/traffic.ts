/** What flows between the pods all the time, and at times in bursts. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Pod } from '../harness/cluster.js';
import { CheckedStream, PacedFlow, type FlowAccount, type StreamAccount } from '../harness/paced-traffic.js';
import { SteadyPing, type PingResult } from '../harness/ping.js';

interface FlowPlan {
  readonly name: string;
  readonly from: number;
  readonly to: number;
  readonly port: number;
  /** Datagrams a second, each way. */
  readonly rate: number;
  readonly payloadBytes: number;
}

/** Between pods by number; the last one is cut into three fragments each. */
const FLOWS: readonly FlowPlan[] = [
  { name: 'datagrams of 200 bytes', from: 0, to: 1, port: 5110, rate: 200, payloadBytes: 200 },
  { name: 'datagrams of 1,000 bytes', from: 1, to: 2, port: 5111, rate: 100, payloadBytes: 1000 },
  { name: 'datagrams of 4,000 bytes, in fragments', from: 0, to: 2, port: 5112, rate: 20, payloadBytes: 4000 },
];
/** 64 KB each time: 5 Mbit/s. */
const STREAM_PAUSE_MS = 100;
const PING_SECONDS = 0.2;

const BURST_PORT = 5120;
const BURST_RATE = 1_000_000;
const BURST_PAYLOAD_BYTES = 100;
/** Each way; several times what a queue of the device takes. */
const BURST_DATAGRAMS = 15_000;
/** How long both ends take to send a burst, with room for a busy machine: what is not sent by then is left. */
const BURST_MS = 1000;

/** What became of it: datagrams by flow, both ways in one. */
export interface TrafficReport {
  readonly flows: readonly {
    readonly name: string;
    readonly sent: number;
    readonly lost: number;
    readonly outOfOrder: number;
    readonly duplicates: number;
  }[];
  readonly streams: readonly StreamAccount[];
  readonly pings: PingResult;
}

export class SoakTraffic {
  private readonly flows: { readonly name: string; readonly flow: PacedFlow }[] = [];
  private readonly streams: CheckedStream[] = [];
  private readonly ended: TrafficReport['flows'][number][] = [];
  private pings: SteadyPing | undefined;

  /** @param program - the compiled `paced_traffic.cc` */
  constructor(
    private readonly program: string,
    private readonly pods: readonly Pod[],
  ) {}

  async start(): Promise<void> {
    const { program, pods } = this;
    for (const { name, from, to, ...plan } of FLOWS) {
      this.flows.push({ name, flow: new PacedFlow({ program, from: pods[from], to: pods[to], ...plan }) });
    }
    await Promise.all(this.flows.map(({ flow }) => flow.listening()));
    for (const { flow } of this.flows) flow.start();
    this.streams.push(await CheckedStream.start(pods[0], pods[2], STREAM_PAUSE_MS));
    this.streams.push(await CheckedStream.start(pods[2], pods[1], STREAM_PAUSE_MS));
    this.pings = await SteadyPing.start(pods[1].namespace, pods[0].address, { intervalSeconds: PING_SECONDS });
  }

  /** Sends more at once, between two pods and both ways, than the queues take. Returns how many were sent and lost. */
  async burst(from: Pod, to: Pod): Promise<{ readonly sent: number; readonly lost: number }> {
    const flow = new PacedFlow({
      ...{ program: this.program, from, to, rate: BURST_RATE, port: BURST_PORT },
      ...{ payloadBytes: BURST_PAYLOAD_BYTES, count: BURST_DATAGRAMS },
    });
    try {
      await flow.listening();
      flow.start();
      await sleep(BURST_MS);
      const report = reportOf('datagrams in bursts', await flow.stop());
      this.ended.push(report);
      return report;
    } finally {
      flow.kill();
    }
  }

  /** Ends it, and waits for what is under way. */
  async stop(): Promise<TrafficReport> {
    const [pings, streams, flows] = await Promise.all([
      this.pings?.stop() ?? { sent: 0, received: 0, output: '' },
      Promise.all(this.streams.map((stream) => stream.stop())),
      Promise.all(this.flows.map(async ({ name, flow }) => reportOf(name, await flow.stop()))),
    ]);
    return { pings, streams, flows: [...flows, ...this.ended] };
  }

  /** Ends it, whatever state it is in. */
  async kill(): Promise<void> {
    for (const { flow } of this.flows) flow.kill();
    await Promise.all(this.streams.map((stream) => stream.close()));
  }
}

function reportOf(name: string, { there, back }: FlowAccount): TrafficReport['flows'][number] {
  return {
    name,
    sent: there.sent + back.sent,
    lost: there.lost + back.lost,
    outOfOrder: there.outOfOrder + back.outOfOrder,
    duplicates: there.duplicates + back.duplicates,
  };
}
