/**
 * A real Docker engine on each node, and containers as pods: how flannel's udp backend is used outside Kubernetes.
 *
 * The engine enters its node by `nsenter --net`, since `ip netns exec` would hide the cgroups, and has a mount namespace
 * of its own: what it mounts, cgroup controllers of a machine without them included, goes when it goes. All its files
 * are in the node's folder; a Docker of the machine's own is never touched.
 */
import { chmod, copyFile, mkdir, mkdtemp, readdir, readFile, rm, rmdir, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FlannelError } from '../errors.js';
import { runCommand, type CommandOptions, type CommandResult } from '../host/command.js';
import { nodeFiles, OWN_FLANNELCTL, startDaemon } from './daemon.js';
import { Namespace } from './namespace.js';
import { hostsFile, type LabPlan, type NodePlan } from './plan.js';
import { isRunning } from './process-record.js';
import { findProgram } from './requirements.js';
import { makePlaceFolder, placeFolder, type LabProcess } from './state.js';

const IMAGE = 'flannelette-pod';
const READY_TIMEOUT_MS = 60_000;

/** Variables that make `docker` talk to a node's engine and to no other. */
export function dockerEnvironment(
  plan: LabPlan,
  node: NodePlan,
): { DOCKER_HOST: string; DOCKER_CONTEXT: string; DOCKER_CONFIG: string } {
  const folder = placeFolder(plan.name, node.name);
  return { DOCKER_HOST: `unix://${join(folder, 'docker.sock')}`, DOCKER_CONTEXT: '', DOCKER_CONFIG: folder };
}

/** `docker exec` as a command line. */
export function dockerExec(container: string, command: string, args: readonly string[], terminal: boolean) {
  return { command: dockerClient(), args: ['exec', '-i', ...(terminal ? ['-t'] : []), container, command, ...args] };
}

/** Starts a node's engine with the options that `flannelctl docker-opts` makes of its subnet.env, and waits for it. */
export async function startEngine(plan: LabPlan, node: NodePlan, signal: AbortSignal): Promise<LabProcess> {
  const folder = await makePlaceFolder(plan.name, node.name);
  const log = join(folder, 'dockerd.log');
  // Instead of the machine's own configuration.
  const configuration = join(folder, 'daemon.json');
  await writeFile(configuration, '{}\n');
  const args = [
    ...(await dockerOptions(plan, node)),
    `--host=${dockerEnvironment(plan, node).DOCKER_HOST}`,
    `--data-root=${join(folder, 'docker')}`,
    `--exec-root=${join(folder, 'run')}`,
    `--pidfile=${join(folder, 'docker.pid')}`,
    `--config-file=${configuration}`,
    '--storage-driver=vfs',
    '--exec-opt=native.cgroupdriver=cgroupfs',
    `--cgroup-parent=/${cgroupOf(plan, node)}`,
    '--userland-proxy=false',
  ];
  const dockerd = findProgram('dockerd', ['/usr/sbin']) ?? 'dockerd';
  const script = `${MOUNT_CGROUPS}\nexec "$@"`;
  const record = startDaemon(
    Namespace.attach(node.namespace),
    'unshare',
    ['--mount', '--propagation', 'private', 'sh', '-c', script, 'sh', dockerd, ...args],
    { logFile: log, view: 'cgroups' },
  );
  for (const deadline = Date.now() + READY_TIMEOUT_MS; ; await sleep(100, undefined, { signal })) {
    const { status } = await docker(plan, node, ['version'], { allowFailure: true });
    if (status === 0) return { ...record, program: 'dockerd', place: node.name };
    const ended = !isRunning(record);
    if (ended || Date.now() > deadline) {
      const how = ended ? 'ended' : `does not answer after ${READY_TIMEOUT_MS / 1000} s`;
      throw new FlannelError('LAB', `dockerd on ${node.name} ${how}: ${await complaint(log)}`);
    }
  }
}

/** Starts a node's pods as containers, of an image that is nothing but busybox. */
export async function startContainers(plan: LabPlan, node: NodePlan, signal: AbortSignal): Promise<void> {
  await importImage(plan, node);
  for (const pod of node.pods) {
    signal.throwIfAborted();
    // Docker hands addresses out in order, so the plan's come true; if not, that is worth an error below.
    const options = ['--detach', '--name', pod.name, '--hostname', pod.name];
    await docker(plan, node, ['run', ...options, IMAGE, 'sleep', '2147483647']);
    const { stdout } = await docker(plan, node, ['inspect', '--format', '{{.NetworkSettings.IPAddress}}', pod.name]);
    if (stdout.trim() !== pod.address) {
      throw new FlannelError(
        'LAB',
        `container ${pod.name} on ${node.name} got ${stdout.trim()} instead of ${pod.address}`,
      );
    }
    await docker(plan, node, ['exec', '-i', pod.name, 'sh', '-c', 'cat > /etc/hosts'], { input: hostsFile(plan) });
  }
}

/** Removes all containers and ends the engines that still answer; what is left falls to whoever ends processes. */
export async function removeContainers(plan: LabPlan): Promise<void> {
  await Promise.all(
    plan.nodes.map(async (node) => {
      const quick = { allowFailure: true, timeoutMs: 30_000 };
      const listed = await docker(plan, node, ['ps', '--all', '--quiet'], quick).catch(() => undefined);
      const ids = listed?.status === 0 ? listed.stdout.split('\n').filter(Boolean) : [];
      if (ids.length > 0)
        await docker(plan, node, ['rm', '--force', '--volumes', ...ids], quick).catch(() => undefined);
    }),
  );
}

/** Removes the control groups of a lab's containers, once nothing runs in them. */
export async function removeControlGroups(plan: LabPlan): Promise<void> {
  const root = '/sys/fs/cgroup';
  // Version 1 has a hierarchy for each controller, version 2 one for all.
  const hierarchies = [root, ...(await readdir(root).catch(() => [])).map((name) => join(root, name))];
  for (const hierarchy of hierarchies) {
    for (const node of plan.nodes) await removeControlGroup(join(hierarchy, cgroupOf(plan, node)));
  }
}

async function removeControlGroup(path: string): Promise<void> {
  const entries = await readdir(path, { withFileTypes: true }).catch(() => undefined);
  if (entries === undefined) return;
  for (const entry of entries) if (entry.isDirectory()) await removeControlGroup(join(path, entry.name));
  // One that is still in use stays: it holds nothing but its name.
  await rmdir(path).catch(() => undefined);
}

function cgroupOf(plan: LabPlan, node: NodePlan): string {
  return `flannelette-${plan.name}-${node.name}`;
}

/** The words of `docker-opts`'s combined variable. */
async function dockerOptions(plan: LabPlan, node: NodePlan): Promise<string[]> {
  const { subnetFile } = nodeFiles(plan.name, node.name);
  const file = join(placeFolder(plan.name, node.name), 'docker_opts.env');
  const args = [OWN_FLANNELCTL, 'docker-opts', '--combined', '--flannel-env', subnetFile, '--docker-env', file];
  await Namespace.attach(node.namespace).exec(process.execPath, args);
  const text = await readFile(file, 'utf8');
  return (/^DOCKER_OPTS="(.*)"$/m.exec(text)?.[1] ?? '').split(' ').filter((word) => word !== '');
}

/** Makes the image: busybox under its many names. */
async function importImage(plan: LabPlan, node: NodePlan): Promise<void> {
  const busybox = findProgram('busybox');
  if (busybox === undefined) throw new FlannelError('LAB', 'busybox is missing: apt-get install busybox-static');
  const folder = await mkdtemp(join(tmpdir(), 'flannelette-image-'));
  try {
    const root = join(folder, 'root');
    for (const name of ['bin', 'dev', 'etc', 'proc', 'sys', 'tmp']) await mkdir(join(root, name), { recursive: true });
    await copyFile(busybox, join(root, 'bin/busybox'));
    await chmod(join(root, 'bin/busybox'), 0o755);
    for (const applet of (await runCommand(busybox, ['--list'])).stdout.split('\n')) {
      if (applet !== '' && applet !== 'busybox') await symlink('busybox', join(root, 'bin', applet));
    }
    const archive = join(folder, 'image.tar');
    await runCommand('tar', ['-C', root, '-cf', archive, '.']);
    const environment = ['--change', 'ENV PATH=/bin'];
    await docker(plan, node, ['import', ...environment, archive, IMAGE]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function docker(
  plan: LabPlan,
  node: NodePlan,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const environment = dockerEnvironment(plan, node);
  return runCommand(dockerClient(), args, { timeoutMs: 60_000, ...options, environment });
}

/** Debian's client before any other, since it fits Debian's engine. */
function dockerClient(): string {
  return findProgram('docker', ['/usr/bin']) ?? 'docker';
}

/** The line of dockerd's log that says why it gave up. */
async function complaint(log: string): Promise<string> {
  const lines = (await readFile(log, 'utf8').catch(() => '')).trim().split('\n');
  return (lines.findLast((line) => /level=(fatal|error)|^failed/.test(line)) ?? lines.at(-1) ?? '').trim();
}

/** Mounts cgroup version 2 where the machine has mounted no cgroups at all. */
const MOUNT_CGROUPS = `if ! grep -q ' - cgroup' /proc/self/mountinfo; then
  mkdir -p /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup
fi`;
