/** iperf3 (https://software.es.net/iperf/) between two endpoints. */
import { FlannelError } from '../../src/errors.js';
import { until } from '../../test/harness/until.js';
import type { Path } from '../running-contender.js';

const EXTRA_MS = 30_000;

export interface IperfOptions {
  readonly seconds: number;
  readonly streams: number;
  /** Both ways at once, that many streams each. */
  readonly both: boolean;
}

/** What arrived, all streams and directions together. */
export interface IperfResult {
  readonly bytes: number;
  readonly bitsPerSecond: number;
}

interface Sum {
  readonly bytes: number;
  readonly bits_per_second: number;
}

interface Report {
  readonly error?: string;
  readonly end?: { readonly sum_received?: Sum; readonly sum_received_bidir_reverse?: Sum };
}

/** @throws FlannelError when it got nowhere */
export async function runIperf({ from, to }: Path, options: IperfOptions): Promise<IperfResult> {
  const server = to.namespace.spawn('setpriv', [
    '--pdeathsig',
    'KILL',
    'iperf3',
    '--server',
    '--one-off',
    '--forceflush',
  ]);
  try {
    let said = '';
    server.stdout?.on('data', (chunk: Buffer) => (said += chunk.toString()));
    await until('iperf3 listens', () => said.includes('listening'), { everyMs: 5 });
    const args = ['--client', to.address, '--time', String(options.seconds), '--parallel', String(options.streams)];
    const { stdout } = await from.namespace.exec(
      'iperf3',
      [...args, ...(options.both ? ['--bidir'] : []), '--json', '--connect-timeout', '5000'],
      { allowFailure: true, timeoutMs: options.seconds * 1000 + EXTRA_MS },
    );
    return readReport(stdout);
  } finally {
    server.kill('SIGKILL');
  }
}

/** Adds up what iperf3's JSON says has arrived. @throws FlannelError for a report of failure */
export function readReport(json: string): IperfResult {
  let report: Report;
  try {
    report = JSON.parse(json) as Report;
  } catch {
    throw new FlannelError('LAB', 'iperf3 printed no report');
  }
  const { error, end } = report;
  const sums = [end?.sum_received, end?.sum_received_bidir_reverse].filter((sum) => sum !== undefined);
  const bytes = sums.reduce((total, sum) => total + sum.bytes, 0);
  if (error !== undefined || bytes === 0) throw new FlannelError('LAB', error ?? 'iperf3: nothing arrived');
  return { bytes, bitsPerSecond: sums.reduce((total, sum) => total + sum.bits_per_second, 0) };
}
