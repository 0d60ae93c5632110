/** A lab: several nodes on one machine, from `up` to `down`. The commands of `flannelctl lab` and tests stand on this. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FlannelError, UsageError } from '../errors.js';
import { runCommand, type CommandOptions, type CommandResult } from '../host/command.js';
import { parsePrefix, type Ipv4Prefix } from '../packet/address.js';
import { ETCD_PORT, etcdEndpoint, startFlanneld, untilReady } from './daemon.js';
import { startContainers, startEngine } from './docker.js';
import { EtcdServer } from './etcd-server.js';
import { Namespace } from './namespace.js';
import { addPods, buildUnderlay } from './network.js';
import { enterPlace, type EnteringCommand } from './places.js';
import {
  checkLabName,
  LAB_PREFIX,
  networkConfig,
  planLab,
  type LabOptions,
  type LabPlan,
  type NodePlan,
} from './plan.js';
import { endProcesses, recordProcess } from './process-record.js';
import { DOCKER_PROGRAMS, LAB_PROGRAMS, requireLabMachine, type LabProgram } from './requirements.js';
import { labFolder, labNames, loadState, makePlaceFolder, ownerRuns, saveState } from './state.js';
import type { LabProcess, LabState } from './state.js';
import { statusOf, type LabStatus } from './status.js';
import { takeName, tearDown, type Progress } from './teardown.js';

export type { LabStatus, NodeStatus } from './status.js';
export type { Progress } from './teardown.js';

export interface UpOptions {
  readonly signal?: AbortSignal;
  readonly progress?: Progress;
  /** Programs that will be needed besides the lab's own. */
  readonly programs?: readonly LabProgram[];
  /** Stays the owner after `up`: whoever takes the lab down ends this process first. */
  readonly keepOwner?: boolean;
}

/** A lab that is up, or half up; got from `up` or `open`. */
export class Lab {
  private constructor(private state: LabState) {}

  get plan(): LabPlan {
    return this.state.plan;
  }

  get name(): string {
    return this.state.plan.name;
  }

  /**
   * Brings a lab up. When that fails, or `signal` is aborted, everything made so far is taken down again.
   * @throws UsageError for options that make no lab; FlannelError `LAB` and `HOST` for everything else
   */
  static async up(
    options: LabOptions,
    { signal, progress = () => undefined, programs = [], keepOwner }: UpOptions = {},
  ) {
    const plan = planLab(options, machinePrefixes());
    requireLabMachine([...LAB_PROGRAMS, ...(plan.runtime === 'docker' ? DOCKER_PROGRAMS : []), ...programs]);
    for (const { name, flanneld } of plan.nodes) {
      if (flanneld !== null && !existsSync(flanneld)) {
        throw new UsageError(`--flanneld ${name}=${flanneld}: there is no such file`);
      }
    }
    const lab = new Lab(await takeName(plan, progress));
    try {
      await lab.build(signal ?? new AbortController().signal, progress);
      await lab.save({ phase: 'up', owner: keepOwner === true ? lab.state.owner : null });
      return lab;
    } catch (error) {
      await lab.takeDown();
      throw error;
    }
  }

  /** A lab that is there. @throws FlannelError `LAB` when there is none of that name. */
  static async open(name: string): Promise<Lab> {
    const state = await loadState(checkLabName(name));
    if (state === undefined) {
      const others = await labNames();
      const hint = others.length === 0 ? '"flannelctl lab up" makes one' : `there is ${others.join(', ')}`;
      throw new FlannelError('LAB', `there is no lab "${name}": ${hint}`);
    }
    return new Lab(state);
  }

  /** The names of all labs of this machine, broken ones included. */
  static list(): Promise<string[]> {
    return labNames();
  }

  /**
   * Takes a lab down, whatever state it is in: running, half built by a process that was killed, or left by an earlier
   * boot. A process that still builds or uses it is asked to end first.
   * @returns whether there was anything to take down
   */
  static async down(name: string, progress: Progress = () => undefined): Promise<boolean> {
    checkLabName(name);
    requireLabMachine(['ip']);
    const state = await loadState(name);
    if (state !== undefined && state.owner !== null && ownerRuns(state) && state.owner.pid !== process.pid) {
      progress(`ending process ${state.owner.pid}, which uses the lab`);
      await endProcesses([state.owner], 30_000, 'SIGINT');
    }
    return tearDown(name, progress);
  }

  /** Takes this lab down. */
  async takeDown(progress: Progress = () => undefined): Promise<void> {
    try {
      await tearDown(this.name, progress);
    } catch {
      // A second Ctrl-C ends the programs that are taking it down as well; the rest is taken down anew.
      await tearDown(this.name, progress);
    }
  }

  /** What the lab consists of, and what of it runs at this moment. */
  status(): LabStatus {
    return statusOf(this.state);
  }

  /**
   * Runs a program in a machine or pod of the lab and waits for its end.
   * @throws FlannelError `LAB` for an unknown place; CommandError as `runCommand` does
   */
  exec(
    place: string,
    command: string,
    args: readonly string[] = [],
    options: CommandOptions = {},
  ): Promise<CommandResult> {
    const entered = this.enter(place, command, args, false);
    const environment = { ...entered.environment, ...options.environment };
    return runCommand(entered.command, entered.args, { ...options, environment });
  }

  /**
   * The command line that runs a program in a place of the lab, for callers that start it themselves.
   * @param terminal - whether the program is to have a terminal (a container has to be asked for one)
   */
  enter(place: string, command: string, args: readonly string[], terminal: boolean): EnteringCommand {
    return enterPlace(this.plan, place, command, args, terminal);
  }

  /** The log of a node's flanneld, of its Docker engine, or of etcd. */
  logFile(place: string, program: 'flanneld' | 'dockerd' = 'flanneld'): string {
    if (place === this.plan.etcd.name) return join(labFolder(this.name), 'etcd', 'etcd.log');
    const node = this.plan.nodes.find((one) => one.name === place);
    if (node === undefined) {
      throw new FlannelError(
        'LAB',
        `"${place}" keeps no log: name a node (node1 to node${this.plan.nodes.length}) or etcd`,
      );
    }
    if (program === 'dockerd' && this.plan.runtime !== 'docker') {
      throw new FlannelError(
        'LAB',
        `lab "${this.name}" runs no Docker: "flannelctl lab up --runtime docker" makes one`,
      );
    }
    return join(labFolder(this.name), node.name, `${program}.log`);
  }

  /**
   * Ends a node's flanneld cleanly (`SIGTERM`) or as a crash would (`SIGKILL`), starts it again and waits until it is
   * ready. The subnet it had is in its subnet.env.
   * @throws FlannelError `LAB` for a node that is not there, or with the daemon's last words
   */
  async restartFlanneld(nodeName: string, how: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const node = this.plan.nodes.find((one) => one.name === nodeName);
    if (node === undefined) {
      throw new FlannelError(
        'LAB',
        `there is no node "${nodeName}": this lab has node1 to node${this.plan.nodes.length}`,
      );
    }
    const ours = (one: LabProcess) => one.program === 'flanneld' && one.place === nodeName;
    await endProcesses(this.state.processes.filter(ours), 10_000, how);
    await this.save({ processes: this.state.processes.filter((one) => !ours(one)) });
    const record = await startFlanneld(this.plan, node);
    await this.add(record);
    await untilReady(this.plan, node, record, new AbortController().signal);
  }

  private async build(signal: AbortSignal, progress: Progress): Promise<void> {
    const { plan } = this;
    await buildUnderlay(plan);
    progress(`underlay ${plan.underlay.cidr} with ${plan.nodes.length} nodes, etcd and the outside`);
    signal.throwIfAborted();

    const etcd = await this.startEtcd();
    await etcd.put(`${LAB_PREFIX}/config`, networkConfig(plan));
    progress(`etcd at ${etcdEndpoint(plan)}`);
    progress(`network ${networkConfig(plan)}`);
    signal.throwIfAborted();

    const running = new Map<NodePlan, LabProcess>();
    for (const node of plan.nodes) {
      const record = await startFlanneld(plan, node);
      running.set(node, record);
      await this.add(record);
      signal.throwIfAborted();
    }
    for (const [node, record] of running) {
      const mtuBytes = await untilReady(plan, node, record, signal);
      const whose = node.flanneld === null ? '' : ` (${node.flanneld})`;
      progress(`flanneld on ${node.name}${whose}: ${node.subnet}, MTU ${mtuBytes}`);
      if (plan.runtime === 'netns') {
        await addPods(plan, node, mtuBytes);
      } else {
        await this.add(await startEngine(plan, node, signal));
        await startContainers(plan, node, signal);
        progress(`docker on ${node.name}: ${node.pods.map((pod) => pod.name).join(', ')} on ${plan.bridge}`);
      }
      signal.throwIfAborted();
    }
    if (plan.runtime === 'netns') {
      const pods = plan.nodes.length * plan.nodes[0].pods.length;
      progress(
        pods === 0
          ? `no pods; ${plan.bridge} on every node`
          : `${pods} pods on ${plan.bridge}, their gateway the node's first address`,
      );
    }
  }

  /**
   * Pings from each node's first pod to the next node's until it answers, since a daemon hears of another's lease a
   * moment after that one is ready.
   * @returns the pairs that did not answer in time
   */
  async settle(timeoutMs: number, signal?: AbortSignal): Promise<string[]> {
    const first = this.plan.nodes.flatMap((node) => node.pods.slice(0, 1));
    if (first.length < 2) return [];
    const deadline = Date.now() + timeoutMs;
    const silent = await Promise.all(
      first.map(async (from, index) => {
        const to = first[(index + 1) % first.length];
        do {
          const { status } = await this.exec(from.name, 'ping', ['-c', '1', '-W', '1', to.address], {
            allowFailure: true,
          });
          if (status === 0) return undefined;
          await sleep(100, undefined, { signal });
        } while (Date.now() < deadline);
        return `${from.name} → ${to.name}`;
      }),
    );
    return silent.filter((pair) => pair !== undefined);
  }

  private async startEtcd(): Promise<EtcdServer> {
    const { plan } = this;
    const namespace = Namespace.attach(plan.etcd.namespace);
    const server = await EtcdServer.start({
      directory: await makePlaceFolder(plan.name, plan.etcd.name),
      addresses: [plan.etcd.address],
      port: ETCD_PORT,
      outlivesParent: true,
      spawn: (command, args, options) => spawn(...namespace.enter(command, args), options),
    });
    const record = server.pid === undefined ? undefined : recordProcess(server.pid);
    if (record === undefined) throw new FlannelError('LAB', 'etcd ended right after its start');
    await this.add({ ...record, program: 'etcd', place: plan.etcd.name });
    return server;
  }

  private add(record: LabProcess): Promise<void> {
    return this.save({ processes: [...this.state.processes, record] });
  }

  private async save(change: Partial<LabState>): Promise<void> {
    this.state = { ...this.state, ...change };
    await saveState(this.state);
  }
}

/** This machine's own IPv4 networks. */
function machinePrefixes(): Ipv4Prefix[] {
  return Object.values(networkInterfaces()).flatMap((addresses) =>
    (addresses ?? [])
      .filter(({ family, cidr }) => family === 'IPv4' && cidr !== null)
      .map(({ cidr }) => parsePrefix(cidr ?? ''))
      .filter((prefix) => prefix !== undefined),
  );
}
