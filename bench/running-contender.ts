/** A contender that stands ready: its site is built, its pods reach each other. */
import { FlannelError, errorMessage } from '../src/errors.js';
import type { Carrier, Contender } from './contenders/contender.js';
import type { ContenderDescription } from './results.js';
import { Site, type Endpoint } from './site.js';

/** Seconds that a contender may take from its start to the first packet that gets through. */
const PATIENCE_SECONDS = 30;

/** Between which ends traffic goes. */
export interface Path {
  readonly from: Endpoint;
  readonly to: Endpoint;
}

export interface RunningContender extends Omit<ContenderDescription, 'offloads'> {
  readonly site: Site;
  readonly path: Path;
  /** Processes whose processor time is the contender's. */
  readonly agents: readonly number[];
  readonly offloads: Carrier['offloads'];
  readonly addNodes: Carrier['addNodes'];
}

/** Where a contender's things go. */
export interface ContenderPlace {
  /** Of the namespaces' names. */
  readonly prefix: string;
  readonly folder: string;
}

/**
 * Builds a site, starts the contender there, and waits until a packet gets through.
 * @throws FlannelError with the contender's name; nothing is left then
 */
export async function startContender(
  contender: Contender,
  from: 'pod' | 'host',
  { prefix, folder }: ContenderPlace,
): Promise<RunningContender> {
  const site = await Site.create(prefix, folder);
  try {
    const { mtuBytes, subnets, hostAddresses, agents, offloads, addNodes } = await contender.start(site);
    const hosts = site.nodes.map(({ namespace }, index) => ({ namespace, address: hostAddresses[index] }));
    const [source, destination] = from === 'pod' && subnets ? await site.addPods(subnets, mtuBytes) : hosts;
    await untilReached({ from: source, to: destination });
    const { name, title } = contender;
    return { name, title, mtuBytes, site, path: { from: source, to: destination }, agents, offloads, addNodes };
  } catch (error) {
    await site.dispose();
    throw new FlannelError('LAB', `${contender.name}: ${briefly(error)}`, { cause: error });
  }
}

async function untilReached({ from, to }: Path): Promise<void> {
  const args = ['-q', '-c', '1', '-i', '0.1', '-w', String(PATIENCE_SECONDS), to.address];
  const options = { allowFailure: true, timeoutMs: (PATIENCE_SECONDS + 5) * 1000 };
  const { status } = await from.namespace.exec('ping', args, options);
  if (status !== 0) throw new FlannelError('LAB', `no packet got through to ${to.address} in ${PATIENCE_SECONDS} s`);
}

/** What went wrong, and the last line of what a program said about it; not all the lines between. */
function briefly(error: unknown): string {
  if (!(error instanceof Error)) return errorMessage(error);
  const lines = error.message.trim().split('\n');
  return [...new Set([lines[0], lines[lines.length - 1]])].join(': ');
}
