import type { ProbeNode } from '../debug/probe/probe-node.js';
import type { Prober } from '../debug/probe/prober.js';
import { FlannelError } from '../errors.js';
import { readPacketQuestion } from '../observe/explain-question.js';
import type { ProbeService } from '../observe/probe-answer.js';
import type { TapHub } from '../observe/tap-hub.js';
import type { SubnetManager } from '../subnet/subnet-manager.js';
import type { AgentState } from './agent-state.js';
import type { KnownLeases } from './known-leases.js';

export interface ProbeNodeParts {
  readonly state: AgentState;
  readonly leases: KnownLeases;
  readonly manager: SubnetManager;
  readonly hub: TapHub;
}

/** This agent as probes know it. */
export function probeNodeOf({ state, leases, manager, hub }: ProbeNodeParts): ProbeNode {
  return {
    hub,
    get board() {
      return manager.probes;
    },
    explainer: {
      status: () => Promise.resolve(state.status()),
      explain(query) {
        const question = readPacketQuestion(new URLSearchParams(query));
        const answer = typeof question === 'string' ? undefined : state.explain(question);
        if (answer === undefined) return Promise.reject(new FlannelError('CONTROL', 'no dataplane runs'));
        return Promise.resolve(answer);
      },
    },
    place() {
      const { config, lease, publicIp, runningBackend } = state;
      if (config === undefined || lease === undefined || publicIp === undefined || runningBackend === undefined) {
        return undefined;
      }
      return {
        publicIp,
        network: config.network,
        subnet: lease.subnet,
        device: runningBackend.deviceName,
        deviceMtuBytes: runningBackend.mtuBytes,
        port: config.backend.port,
        formerSubnet: state.formerSubnet,
        trouble: state.trouble(),
      };
    },
    leases: () => [...leases.values()],
  };
}

/** Probes for `flannelctl`; what they take is loaded when the first is asked for. */
export function probeServiceOf(node: ProbeNode): ProbeService {
  let prober: Promise<Prober> | undefined;
  return {
    async probe(request, signal) {
      prober ??= import('../debug/probe/prober.js').then((module) => new module.Prober(node));
      return (await prober).probe(request, signal);
    },
  };
}
