/**
 * A real etcd for labs and tests: Debian's own binary, on free ports, in a folder of its own.
 *
 * Beside its TCP addresses the server listens on a unix socket in its folder. That is how it is asked whether it is
 * healthy and how it is administered, so both work from outside the network namespace it runs in, and whatever TLS the
 * TCP addresses demand. A lone server's peer address is a unix socket as well: it talks to nobody.
 */
import { spawn as spawnProcess, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { accessSync, closeSync, constants, openSync, readFileSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorMessage, FlannelError } from '../errors.js';
import { makeEtcdFolder } from './etcd-folder.js';
import { EtcdGateway } from './etcd-gateway.js';

/** Starts a command as `child_process.spawn` does; a lab puts `ip netns exec NAME` before it. */
export type SpawnFunction = (command: string, args: readonly string[], options: SpawnOptions) => ChildProcess;

export interface EtcdServerOptions {
  /**
   * Folder for data, log and sockets (its path at most 90 bytes long, for the sockets'). Created when absent; what an
   * earlier server left there is used. Default: a fresh temporary folder that `dispose` removes, or the
   * next server to start if this process is killed.
   */
  readonly directory?: string;
  /** Addresses to listen on; default 127.0.0.1. */
  readonly addresses?: readonly string[];
  /** Port on all of them; default: a free one. */
  readonly port?: number;
  /** Certificate and key in PEM; with `clientCaFile`, clients need a certificate of that authority. */
  readonly tls?: { readonly certFile: string; readonly keyFile: string; readonly clientCaFile?: string };
  readonly spawn?: SpawnFunction;
  /**
   * Keeps etcd running after this process has ended, for which it needs a `directory`; by default it dies with it,
   * however this one dies.
   */
  readonly outlivesParent?: boolean;
  /** Its place in a cluster of several; alone by default. */
  readonly member?: ClusterMember;
  /** Further flags of etcd, such as `--auth-token-ttl=2`. */
  readonly extraArguments?: readonly string[];
}

/** One of several servers that are a cluster together. */
export interface ClusterMember {
  readonly name: string;
  /** `http://ADDRESS:PORT` of every member for the others, this one's among them, by name. */
  readonly peers: Readonly<Record<string, string>>;
}

/** The socket for clients, in the server's folder. */
export const CLIENT_SOCKET = 'client:0';
const PEER_SOCKET = 'peer:0';
const ALONE: ClusterMember = { name: 'flannel', peers: { flannel: `unix://${PEER_SOCKET}` } };
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 10_000;
const PORT_ATTEMPTS = 5;

/** One etcd process and what is needed to talk to it. */
export class EtcdServer extends EtcdGateway {
  /** Where data, log (`etcd.log`) and sockets are. */
  readonly directory: string;
  private port: number;
  private child: ChildProcess | undefined;
  private exited: Promise<void> = Promise.resolve();

  private constructor(
    private readonly options: EtcdServerOptions,
    directory: string,
  ) {
    super(join(directory, CLIENT_SOCKET));
    this.directory = directory;
    this.port = options.port ?? 0;
  }

  /**
   * Starts a server and waits until it says that it is healthy, which needs most of its cluster's members.
   * @throws FlannelError `LAB` when etcd is not installed, ends early or does not become healthy within a minute.
   */
  static async start(options: EtcdServerOptions = {}): Promise<EtcdServer> {
    if (options.directory !== undefined) await mkdir(options.directory, { recursive: true, mode: 0o700 });
    const directory = options.directory ?? (await makeEtcdFolder());
    const server = new EtcdServer(options, directory);
    try {
      await server.launch();
    } catch (error) {
      await server.dispose();
      throw error;
    }
    return server;
  }

  /** `http(s)://ADDRESS:PORT` of each address, for `--etcd-endpoints`. */
  get endpoints(): string[] {
    const scheme = this.options.tls === undefined ? 'http' : 'https';
    return (this.options.addresses ?? ['127.0.0.1']).map((address) => `${scheme}://${address}:${this.port}`);
  }

  /** The unix socket that answers without TLS, in whatever namespace the server is: one more endpoint of it. */
  get socketEndpoint(): string {
    return `unix://${this.socketPath}`;
  }

  /** Process id; `undefined` while stopped. */
  get pid(): number | undefined {
    return this.child?.pid;
  }

  /** Starts again after `stop` or `kill`, on the same data and port. */
  async restart(): Promise<void> {
    await this.stop();
    await this.launch();
  }

  /** Ends the server cleanly (and by force after 10 s); data and folder stay. */
  async stop(): Promise<void> {
    const child = this.child;
    if (child === undefined) return;
    child.kill('SIGCONT');
    child.kill('SIGTERM');
    const forced = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await this.exited;
    clearTimeout(forced);
  }

  /** Ends the server as a crash would; data and folder stay. */
  async kill(): Promise<void> {
    this.child?.kill('SIGKILL');
    await this.exited;
  }

  /** Freezes the server: connections stay open and nothing answers. `stop`, `kill` and `resume` end that. */
  pause(): void {
    this.child?.kill('SIGSTOP');
  }

  /** Lets a paused server go on. */
  resume(): void {
    this.child?.kill('SIGCONT');
  }

  /** Ends the server by force and removes its folder, unless that was given. */
  async dispose(): Promise<void> {
    await this.kill();
    if (this.options.directory === undefined) await rm(this.directory, { recursive: true, force: true });
  }

  private async launch(): Promise<void> {
    const wanted = this.options.port ?? this.port;
    for (let attempt = 1; ; attempt++) {
      this.port = wanted === 0 ? await freePort() : wanted;
      try {
        await this.clearSockets();
        this.spawnEtcd();
        await this.untilHealthy();
        return;
      } catch (error) {
        await this.kill();
        // Another process may have taken the free port in between.
        if (wanted !== 0 || attempt === PORT_ATTEMPTS || !/address already in use/.test(errorMessage(error)))
          throw error;
      }
    }
  }

  /** Removes the sockets of a server that was killed; etcd would take them for an address in use. */
  private async clearSockets(): Promise<void> {
    if ((await this.healthy()) !== undefined) {
      throw new FlannelError('LAB', `another etcd is running in ${this.directory}: stop it, or use another folder`);
    }
    for (const socket of [CLIENT_SOCKET, PEER_SOCKET]) await rm(join(this.directory, socket), { force: true });
  }

  private spawnEtcd(): void {
    const etcd = findEtcd();
    const { tls, spawn = spawnProcess, outlivesParent = false, extraArguments = [] } = this.options;
    const { name, peers } = this.options.member ?? ALONE;
    const listen = [...this.endpoints, `unix://${CLIENT_SOCKET}`].join(',');
    const args = [
      `--name=${name}`,
      '--data-dir=data',
      '--logger=zap',
      '--log-outputs=stderr',
      `--listen-client-urls=${listen}`,
      `--advertise-client-urls=${this.endpoints.join(',')}`,
      `--listen-peer-urls=${peers[name]}`,
      `--initial-advertise-peer-urls=${peers[name]}`,
      `--initial-cluster=${Object.entries(peers)
        .map(([member, url]) => `${member}=${url}`)
        .join(',')}`,
      ...(tls === undefined ? [] : [`--cert-file=${tls.certFile}`, `--key-file=${tls.keyFile}`]),
      ...(tls?.clientCaFile === undefined ? [] : ['--client-cert-auth', `--trusted-ca-file=${tls.clientCaFile}`]),
      ...extraArguments,
    ];
    // The kernel ends etcd with its parent, so that a killed test run leaves no process behind.
    const command = outlivesParent ? [etcd, ...args] : ['setpriv', '--pdeathsig', 'KILL', etcd, ...args];
    const log = openSync(join(this.directory, 'etcd.log'), 'w', 0o600);
    const child = spawn(command[0], command.slice(1), {
      cwd: this.directory,
      env: cleanEnvironment(),
      stdio: ['ignore', log, log],
      detached: outlivesParent,
    });
    closeSync(log);
    this.child = child;
    this.exited = new Promise((resolve) => {
      const ended = () => {
        if (this.child === child) this.child = undefined;
        resolve();
      };
      child.once('exit', ended);
      child.once('error', ended);
    });
    if (outlivesParent) child.unref();
  }

  private async untilHealthy(): Promise<void> {
    for (const deadline = Date.now() + START_TIMEOUT_MS; ; await sleep(20)) {
      if (this.child === undefined) throw new FlannelError('LAB', `etcd did not start: ${this.lastLogLine()}`);
      if ((await this.healthy()) === true) return;
      if (Date.now() > deadline) {
        throw new FlannelError('LAB', `etcd is not healthy after ${START_TIMEOUT_MS / 1000} s: ${this.lastLogLine()}`);
      }
    }
  }

  private lastLogLine(): string {
    const lines = readFileSync(join(this.directory, 'etcd.log'), 'utf8').trim().split('\n');
    const line = lines.findLast((candidate) => /"level":"(fatal|error)"/.test(candidate)) ?? lines.at(-1) ?? '';
    try {
      const { msg = '', error = '' } = JSON.parse(line) as { msg?: string; error?: string };
      return [msg, error].filter((part) => part !== '').join(': ');
    } catch {
      return line;
    }
  }
}

/** A port of 127.0.0.1 that nobody has at this moment. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

function findEtcd(): string {
  // Servers are often installed where only root's PATH looks.
  for (const folder of [...(process.env['PATH'] ?? '').split(delimiter), '/usr/bin', '/usr/sbin', '/usr/local/bin']) {
    const candidate = join(folder === '' ? '.' : folder, 'etcd');
    try {
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {
      continue;
    }
  }
  throw new FlannelError('LAB', 'etcd is not on the PATH: install it with "apt-get install etcd-server"');
}

/** etcd takes every flag from `ETCD_…` as well, so nothing of this process's environment may reach it. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  const path = process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin';
  // etcd 3.4 refuses to start on architectures other than amd64 unless told that this is known.
  const supported = process.arch === 'x64' || process.arch === 'ppc64' || process.arch === 's390x';
  return supported ? { PATH: path } : { PATH: path, ETCD_UNSUPPORTED_ARCH: goArchitecture() };
}

function goArchitecture(): string {
  const names: Partial<Record<NodeJS.Architecture, string>> = { ia32: '386', mips: 'mips', mipsel: 'mipsle' };
  return names[process.arch] ?? process.arch;
}
