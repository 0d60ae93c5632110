/** Starts programs that go on after the command that started them, in a machine of a lab. */
import { spawn, type StdioOptions } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { FlannelError } from '../errors.js';
import { commandEnvironment } from '../host/command.js';
import { Namespace } from './namespace.js';
import type { LabPlan, NodePlan } from './plan.js';
import { isRunning, recordProcess, type ProcessRecord } from './process-record.js';
import { makePlaceFolder, placeFolder, type LabProcess } from './state.js';

const BIN = fileURLToPath(new URL('../../../bin/', import.meta.url));
/** This project's own programs. */
export const OWN_FLANNELD = join(BIN, 'flanneld');
export const OWN_FLANNELCTL = join(BIN, 'flannelctl');

export const ETCD_PORT = 2379;
const READY_TIMEOUT_MS = 30_000;

/** Files of a node, in its folder. */
export interface NodeFiles {
  readonly log: string;
  readonly subnetFile: string;
  readonly controlSocket: string;
}

/** Where the files of a node of a lab are; they need not be there yet. */
export function nodeFiles(lab: string, node: string): NodeFiles {
  const folder = placeFolder(lab, node);
  return {
    log: join(folder, 'flanneld.log'),
    subnetFile: join(folder, 'subnet.env'),
    controlSocket: join(folder, 'flanneld.sock'),
  };
}

/** The address of the lab's etcd, as flanneld's `--etcd-endpoints` takes it. */
export function etcdEndpoint(plan: LabPlan): string {
  return `http://${plan.etcd.address}:${ETCD_PORT}`;
}

export interface DaemonOptions {
  readonly logFile: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** See `Namespace.enter`. */
  readonly view?: 'sysfs' | 'cgroups';
}

/**
 * Starts a program in a session of its own, its output going to a file.
 * @throws FlannelError `LAB` when it cannot be started
 */
export function startDaemon(
  namespace: Namespace,
  command: string,
  args: readonly string[],
  options: DaemonOptions,
): ProcessRecord {
  const log = openSync(options.logFile, 'a', 0o600);
  const stdio: StdioOptions = ['ignore', log, log];
  const child = spawn(...namespace.enter(command, args, { view: options.view }), {
    env: cleanEnvironment(options.environment),
    stdio,
    detached: true,
  });
  closeSync(log);
  child.on('error', () => undefined);
  child.unref();
  const record = child.pid === undefined ? undefined : recordProcess(child.pid);
  if (record === undefined) throw new FlannelError('LAB', `cannot start ${command} in ${namespace.name}`);
  return record;
}

/** The caller's environment without what would steer the lab's daemons behind its back. */
function cleanEnvironment(added: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const environment = Object.entries(commandEnvironment());
  const clean = environment.filter(([name]) => !/^(FLANNELD_|ETCD_|DOCKER_|NOTIFY_SOCKET|WATCHDOG_)/.test(name));
  return { ...Object.fromEntries(clean), ...added };
}

/**
 * Starts a node's flanneld. Its subnet.env of a life before says which subnet to ask for, so that node1 always has the
 * first. What only this project's daemon knows is in the environment, where flannel's own reads nothing.
 */
export async function startFlanneld(plan: LabPlan, node: NodePlan): Promise<LabProcess> {
  await makePlaceFolder(plan.name, node.name);
  const { log, subnetFile, controlSocket } = nodeFiles(plan.name, node.name);
  await writeFile(subnetFile, `FLANNEL_NETWORK=${plan.network}\nFLANNEL_SUBNET=${node.gateway}/${plan.subnetLength}\n`);
  const flags = [`--etcd-endpoints=${etcdEndpoint(plan)}`, `--subnet-file=${subnetFile}`, '--iface=eth0', '--ip-masq'];
  const [command, args] =
    node.flanneld === null ? [process.execPath, [OWN_FLANNELD, ...flags]] : [node.flanneld, flags];
  const record = startDaemon(Namespace.attach(node.namespace), command, args, {
    logFile: log,
    environment: { FLANNELD_CONTROL_SOCKET: controlSocket },
  });
  return { ...record, program: 'flanneld', place: node.name, path: node.flanneld ?? OWN_FLANNELD };
}

/**
 * Waits until a node's flanneld has written the subnet and MTU it serves.
 * @returns the overlay's MTU in bytes
 * @throws FlannelError `LAB` with the daemon's last words when it ends or takes longer than 30 s
 */
export async function untilReady(plan: LabPlan, node: NodePlan, record: ProcessRecord, signal: AbortSignal) {
  const { subnetFile, log } = nodeFiles(plan.name, node.name);
  for (const deadline = Date.now() + READY_TIMEOUT_MS; ; await sleep(30, undefined, { signal })) {
    const text = await readFile(subnetFile, 'utf8');
    const mtu = /^FLANNEL_MTU=([0-9]+)$/m.exec(text)?.[1];
    if (mtu !== undefined) {
      const subnet = /^FLANNEL_SUBNET=(.*)$/m.exec(text)?.[1] ?? '';
      if (subnet === `${node.gateway}/${plan.subnetLength}`) return Number(mtu);
      throw new FlannelError('LAB', `${node.name} got the subnet ${subnet} instead of ${node.subnet}; its log: ${log}`);
    }
    const ended = !isRunning(record);
    if (ended || Date.now() > deadline) {
      const how = ended ? 'ended' : `is not ready after ${READY_TIMEOUT_MS / 1000} s`;
      throw new FlannelError('LAB', `flanneld on ${node.name} ${how}: ${await lastLine(log)}`);
    }
  }
}

/** The last line of a log that says something. */
async function lastLine(file: string): Promise<string> {
  const text = await readFile(file, 'utf8').catch(() => '');
  return text.trim().split('\n').at(-1)?.trim() || 'it said nothing';
}
