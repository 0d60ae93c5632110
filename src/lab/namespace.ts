import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import { existsSync } from 'node:fs';
import { commandEnvironment, runCommand, type CommandOptions, type CommandResult } from '../host/command.js';

/** How a program enters the namespace. Both replace themselves by the program: its pid and signals are its own. */
export interface EnterOptions {
  /**
   * `sysfs` (default): by `ip netns exec`, with a `/sys` that shows the namespace's own devices.
   * `cgroups`: by `nsenter --net`, with the host's `/sys`; a container engine needs its cgroups.
   */
  readonly view?: 'sysfs' | 'cgroups';
}

export interface NamespaceSpawnOptions extends EnterOptions {
  readonly environment?: Readonly<Record<string, string>>;
  readonly workingDirectory?: string;
  /** As of `child_process.spawn`; by default the child's input is empty and its output is piped. */
  readonly stdio?: StdioOptions;
  /** A process group of its own, so that a signal to this process's group (Ctrl-C) does not reach it. */
  readonly detached?: boolean;
}

/** How long a spawned process has to end after SIGTERM before it is killed. */
const GRACE_MS = 3_000;

/**
 * A named network namespace (`ip netns`, network_namespaces(7)): a machine of its own as far as the network goes. Used
 * by the lab and by the integration tests; nothing here touches the addresses, routes or rules of the namespace that
 * this process itself runs in.
 */
export class Namespace {
  readonly name: string;
  readonly #children = new Set<ChildProcess>();

  private constructor(name: string) {
    this.name = name;
  }

  /** Makes a namespace with its loopback up. One of the same name, left by a killed run, is removed first. */
  static async create(name: string): Promise<Namespace> {
    const namespace = new Namespace(name);
    await namespace.remove();
    await runCommand('ip', ['netns', 'add', name]);
    try {
      await namespace.setUp('lo');
    } catch (error) {
      await namespace.remove();
      throw error;
    }
    return namespace;
  }

  /** A handle on a namespace that exists already, such as one of a lab that another process brought up. */
  static attach(name: string): Namespace {
    return new Namespace(name);
  }

  /** Where `ip netns` keeps the namespace, for `nsenter --net=`. */
  get path(): string {
    return `/run/netns/${this.name}`;
  }

  get exists(): boolean {
    return existsSync(this.path);
  }

  /** Command and arguments that run `command` inside. */
  enter(command: string, args: readonly string[], options: EnterOptions = {}): [string, string[]] {
    return options.view === 'cgroups'
      ? ['nsenter', [`--net=${this.path}`, '--', command, ...args]]
      : ['ip', ['netns', 'exec', this.name, command, ...args]];
  }

  /** Runs a program inside and waits for its end. @throws CommandError as `runCommand` does. */
  exec(command: string, args: readonly string[], options: CommandOptions & EnterOptions = {}): Promise<CommandResult> {
    return runCommand(...this.enter(command, args, options), options);
  }

  /** Runs `ip` inside, its arguments in one string: `await node.ip('link set eth0 mtu 1400')`. Returns its output. */
  async ip(args: string): Promise<string> {
    return (await runCommand('ip', ['-n', this.name, ...args.split(' ').filter((word) => word !== '')])).stdout;
  }

  /** Starts a program inside and leaves it running; `remove` ends it. The returned child's pid is the program's. */
  spawn(command: string, args: readonly string[], options: NamespaceSpawnOptions = {}): ChildProcess {
    const child = spawn(...this.enter(command, args, options), {
      env: commandEnvironment(options.environment),
      cwd: options.workingDirectory,
      stdio: options.stdio ?? ['ignore', 'pipe', 'pipe'],
      detached: options.detached,
    });
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    // Without a listener a failed start would end this process; the child has no pid then, which callers can see.
    child.on('error', () => this.#children.delete(child));
    return child;
  }

  /** Lays a cable (veth(4)) from `device` here to `peerDevice` in `peer`; both ends are up. */
  async connect(
    device: string,
    peer: Namespace,
    peerDevice: string,
    options: { readonly mtuBytes?: number } = {},
  ): Promise<void> {
    const mtu = options.mtuBytes === undefined ? [] : ['mtu', String(options.mtuBytes)];
    await runCommand('ip', [
      ...['link', 'add', 'name', device, 'netns', this.name, ...mtu],
      ...['type', 'veth', 'peer', 'name', peerDevice, 'netns', peer.name, ...mtu],
    ]);
    await Promise.all([this.setUp(device), peer.setUp(peerDevice)]);
  }

  /** Makes a bridge; it is up. `ports` are devices of this namespace that join it. */
  async addBridge(bridge: string, ports: readonly string[] = []): Promise<void> {
    await this.ip(`link add name ${bridge} type bridge`);
    for (const port of ports) await this.ip(`link set ${port} master ${bridge}`);
    await this.setUp(bridge);
  }

  /** Puts a device into a bridge of this namespace. */
  async joinBridge(device: string, bridge: string): Promise<void> {
    await this.ip(`link set ${device} master ${bridge} up`);
  }

  async setUp(device: string): Promise<void> {
    await this.ip(`link set ${device} up`);
  }

  async setMtu(device: string, mtuBytes: number): Promise<void> {
    await this.ip(`link set ${device} mtu ${mtuBytes}`);
  }

  /** Adds an address with its prefix length: `addAddress('eth0', '192.168.1.2/24')`. */
  async addAddress(device: string, address: string): Promise<void> {
    await this.ip(`address add ${address} dev ${device}`);
  }

  /** Adds or replaces a route: `addRoute('default', 'via 192.168.1.1')`, `addRoute('10.5.0.0/16', 'dev flannel0')`. */
  async addRoute(destination: string, how: string): Promise<void> {
    await this.ip(`route replace ${destination} ${how}`);
  }

  /** Writes a setting of the namespace: `setSysctl('net.ipv4.ip_forward', 1)`. */
  async setSysctl(key: string, value: number | string): Promise<void> {
    await this.exec('sysctl', ['-q', '-w', `${key}=${value}`]);
  }

  /** The processes that run inside, whoever started them. */
  async processes(): Promise<number[]> {
    const { stdout } = await runCommand('ip', ['netns', 'pids', this.name], { allowFailure: true });
    return stdout.split(/\s+/).filter(Boolean).map(Number);
  }

  /**
   * Ends the processes that run inside (SIGTERM, after a grace period SIGKILL) and removes the namespace with all its
   * devices. Does nothing when it is gone already; never throws for a process that ended by itself.
   */
  async remove(): Promise<void> {
    if (!this.exists) return;
    // A child that was spawned a moment ago may not have entered the namespace yet, so both lists count.
    const running = async () => new Set([...this.#childPids(), ...(await this.processes())]);
    for (const pid of await running()) signalProcess(pid, 'SIGTERM');
    const deadline = Date.now() + GRACE_MS;
    for (;;) {
      const left = await running();
      if (left.size === 0) break;
      if (Date.now() > deadline) for (const pid of left) signalProcess(pid, 'SIGKILL');
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await runCommand('ip', ['netns', 'delete', this.name], { allowFailure: true });
  }

  #childPids(): number[] {
    return [...this.#children].map((child) => child.pid).filter((pid) => pid !== undefined);
  }
}

function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended meanwhile.
  }
}

/** Removes several namespaces; every one is tried before the first failure is reported. */
export async function removeNamespaces(namespaces: Iterable<Namespace>): Promise<void> {
  const results = await Promise.allSettled([...namespaces].map((namespace) => namespace.remove()));
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}
