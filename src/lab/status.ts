/** What a lab consists of, and what of it runs. */
import { etcdEndpoint, nodeFiles, OWN_FLANNELD } from './daemon.js';
import { dockerEnvironment } from './docker.js';
import { Namespace } from './namespace.js';
import type { NodePlan } from './plan.js';
import { bootId, isRunning } from './process-record.js';
import { inUse, labFolder, type LabState } from './state.js';

export interface LabStatus {
  readonly name: string;
  readonly createdAt: string;
  readonly phase: 'starting' | 'up' | 'broken';
  /** Whether everything that belongs to the lab runs. */
  readonly healthy: boolean;
  readonly network: string;
  readonly backend: string;
  readonly runtime: string;
  readonly underlay: string;
  readonly folder: string;
  readonly etcd: {
    readonly address: string;
    readonly endpoint: string;
    readonly running: boolean;
    readonly pid: number | null;
  };
  readonly outside: { readonly address: string; readonly world: string };
  readonly nodes: readonly NodeStatus[];
}

export interface NodeStatus {
  readonly name: string;
  readonly namespace: string;
  readonly exists: boolean;
  readonly address: string;
  readonly subnet: string;
  readonly flanneld: { readonly program: string; readonly running: boolean; readonly pid: number | null };
  /** `null` where another flanneld runs. */
  readonly controlSocket: string | null;
  readonly subnetFile: string;
  readonly log: string;
  /** The Docker engine's socket, with the Docker runtime. */
  readonly dockerSocket: string | null;
  readonly pods: readonly { readonly name: string; readonly address: string; readonly namespace: string | null }[];
}

/** The status of a lab at this moment. */
export function statusOf(state: LabState): LabStatus {
  const { plan, createdAt, phase } = state;
  const sameBoot = state.bootId === bootId();
  const find = (program: string, place: string) => {
    const record = state.processes.find((one) => one.program === program && one.place === place);
    const running = sameBoot && record !== undefined && isRunning(record);
    return { running, pid: running ? record.pid : null };
  };
  const nodes = plan.nodes.map((node): NodeStatus => {
    const { log, subnetFile, controlSocket } = nodeFiles(plan.name, node.name);
    return {
      name: node.name,
      namespace: node.namespace,
      exists: Namespace.attach(node.namespace).exists,
      address: node.address,
      subnet: node.subnet,
      flanneld: { program: flanneldOf(state, node), ...find('flanneld', node.name) },
      controlSocket: node.flanneld === null ? controlSocket : null,
      subnetFile,
      log,
      dockerSocket:
        plan.runtime === 'docker' ? dockerEnvironment(plan, node).DOCKER_HOST.slice('unix://'.length) : null,
      pods: node.pods.map(({ name, address, namespace }) => ({ name, address, namespace })),
    };
  });
  const etcd = { address: plan.etcd.address, endpoint: etcdEndpoint(plan), ...find('etcd', 'etcd') };
  const healthy =
    phase === 'up' &&
    etcd.running &&
    nodes.every((node) => node.exists && node.flanneld.running) &&
    (plan.runtime !== 'docker' || plan.nodes.every((node) => find('dockerd', node.name).running));
  return {
    name: plan.name,
    createdAt,
    phase: inUse(state) ? phase : 'broken',
    healthy,
    network: plan.network,
    backend: plan.backend,
    runtime: plan.runtime,
    underlay: plan.underlay.cidr,
    folder: labFolder(plan.name),
    etcd,
    outside: { address: plan.outside.address, world: plan.outside.world },
    nodes,
  };
}

/** The file that runs as a node's flanneld, or, where none was started yet, that would. */
function flanneldOf({ processes }: LabState, { name, flanneld }: NodePlan): string {
  const started = processes.find(({ program, place }) => program === 'flanneld' && place === name);
  return started?.path ?? flanneld ?? OWN_FLANNELD;
}
