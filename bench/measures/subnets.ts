/**
 * A node that sends to many others. One namespace plays all of them: it has the address of every far node and counts
 * what arrives for any, so that only the way out of one agent is measured, with as many next hops as there are subnets.
 *
 *     pod1 ── cni0 ─ node1 (agent) ══ eth0 ══ node2 (forwards) ─ cni0 ── pod2, all of 192.168.66.0/24
 */
import { FlannelError } from '../../src/errors.js';
import { until } from '../../test/harness/until.js';
import { FAR_SUBNETS, type FarNode } from '../contenders/contender.js';
import type { RunningContender } from '../running-contender.js';
import { flood, startCounting } from '../traffic.js';
import type { Measure } from './measure.js';
import { measureFlood, UDP_FIGURES } from './udp.js';

const FAR_NETWORK = '192.168.66.0/24';
const FAR_NODES: readonly FarNode[] = FAR_SUBNETS.map((subnet, index) => ({
  subnet,
  address: `192.168.66.${index + 1}`,
}));
/** Where the first flow goes; the others go to the same host of the next subnets. */
const DESTINATION = FAR_SUBNETS[0].replace('0/24', '2');
const INNER_PORT = 5300;
/** Of flannel's udp backend: where the far nodes are sent to. */
const OUTER_PORT = 8285;
const SIZE = 1400;
const PATIENCE_MS = 60_000;

/** Contenders that know the far nodes by now. */
const prepared = new WeakSet<RunningContender>();

interface Flows {
  readonly flows: number;
  readonly subnets: number;
}

const MANY: Flows = { flows: 1000, subnets: FAR_SUBNETS.length };

function subnetMeasure(name: string, title: string, flows: Flows): Measure {
  return {
    name,
    title,
    figures: UDP_FIGURES,
    appliesTo: ({ addNodes }) => addNodes !== undefined,
    async run(contender, { seconds }) {
      if (!prepared.has(contender)) await prepare(contender);
      return measureFlood(
        contender.agents,
        () => count(contender, flows),
        () => send(contender, flows, seconds),
      );
    },
  };
}

function count({ path: { to } }: RunningContender, { flows }: Flows) {
  return startCounting(to, { port: OUTER_PORT, ports: 1, flows, outer: true });
}

function send({ path: { from } }: RunningContender, { flows, subnets }: Flows, seconds: number) {
  return flood(from.namespace, DESTINATION, { port: INNER_PORT, size: SIZE, flows, subnets, seconds });
}

/** Lays the ways to the far nodes, makes them known, and waits until every flow gets through. */
async function prepare(contender: RunningContender): Promise<void> {
  const { site, path, addNodes } = contender;
  if (addNodes === undefined) throw new FlannelError('LAB', 'it knows no nodes but two');
  const [node1, node2] = site.nodes;
  await path.to.namespace.addRoute(`local ${FAR_NETWORK}`, 'dev lo');
  await node2.namespace.addRoute(FAR_NETWORK, `via ${path.to.address}`);
  await node1.namespace.addRoute(FAR_NETWORK, `via ${node2.address}`);
  await addNodes(FAR_NODES);
  const reached = async (): Promise<boolean> => {
    const stop = await count(contender, MANY);
    await send(contender, MANY, 1);
    return (await stop()).flows === MANY.flows;
  };
  await until(`all ${MANY.flows} flows get through`, reached, { withinMs: PATIENCE_MS });
  prepared.add(contender);
}

export const SUBNET_MEASURES: readonly Measure[] = [
  subnetMeasure('subnets-1', 'UDP, 1,400 bytes, one flow to one far node', { flows: 1, subnets: 1 }),
  subnetMeasure('subnets-250', 'UDP, 1,400 bytes, 1,000 flows to 250 far nodes', MANY),
];
