/** The places of a lab by name, and how a program gets into each. */
import { FlannelError } from '../errors.js';
import { etcdEndpoint, nodeFiles } from './daemon.js';
import { dockerEnvironment, dockerExec } from './docker.js';
import { Namespace } from './namespace.js';
import type { LabPlan, NodePlan } from './plan.js';

/** A command line with the variables it needs. */
export interface EnteringCommand {
  readonly command: string;
  readonly args: string[];
  readonly environment: Record<string, string>;
}

/** Where a command of the lab is to run. */
interface ExecTarget {
  readonly node?: NodePlan;
  readonly namespace?: string;
  readonly container?: { readonly node: NodePlan; readonly name: string };
}

/**
 * The command line that runs a program in a place.
 * @param terminal - whether the program is to have a terminal (a container has to be asked for one)
 * @throws FlannelError `LAB` for a place that is not there
 */
export function enterPlace(
  plan: LabPlan,
  place: string,
  command: string,
  args: readonly string[],
  terminal: boolean,
): EnteringCommand {
  const { node, namespace, container } = findPlace(plan, place);
  if (container !== undefined) {
    const inside = dockerExec(container.name, command, args, terminal);
    return { ...inside, environment: dockerEnvironment(plan, container.node) };
  }
  const [program, all] = Namespace.attach(namespace ?? '').enter(command, args);
  // On a node, flannelctl and docker find that node's own daemons.
  const environment = node === undefined ? {} : nodeEnvironment(plan, node);
  return { command: program, args: all, environment };
}

function nodeEnvironment(plan: LabPlan, node: NodePlan): Record<string, string> {
  const { controlSocket, subnetFile } = nodeFiles(plan.name, node.name);
  return {
    FLANNELD_CONTROL_SOCKET: controlSocket,
    FLANNELD_SUBNET_FILE: subnetFile,
    FLANNELD_ETCD_ENDPOINTS: etcdEndpoint(plan),
    ...(plan.runtime === 'docker' ? dockerEnvironment(plan, node) : {}),
  };
}

function findPlace(plan: LabPlan, place: string): ExecTarget {
  for (const one of [plan.etcd, plan.outside, plan.underlay]) {
    if (one.name === place) return { namespace: one.namespace };
  }
  for (const node of plan.nodes) {
    if (node.name === place) return { node, namespace: node.namespace };
    for (const pod of node.pods) {
      if (pod.name !== place) continue;
      return pod.namespace === null ? { container: { node, name: pod.name } } : { namespace: pod.namespace };
    }
  }
  const pods = plan.nodes.flatMap((node) => node.pods);
  const places = [plan.nodes[0].name, ...(pods.length > 0 ? [pods[0].name] : []), 'etcd', 'outside', 'underlay'];
  throw new FlannelError('LAB', `lab "${plan.name}" has no "${place}": try one of ${places.join(', ')}, …`);
}
