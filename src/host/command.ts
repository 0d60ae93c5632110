import { execFile } from 'node:child_process';
import { constants } from 'node:os';
import { FlannelError } from '../errors.js';

/** What a program said and how it ended. */
export interface CommandResult {
  readonly stdout: string;
  readonly stderr: string;
  /** Exit status; 128 + the signal's number when a signal ended it, as shells count. */
  readonly status: number;
}

export interface CommandOptions {
  /** Written to the program's standard input; without it, standard input is empty. */
  readonly input?: string;
  /** After this long the program is killed and the call fails; 30 seconds by default. */
  readonly timeoutMs?: number;
  /** A status other than 0 is an answer, not an error. A missing program and a timeout are errors all the same. */
  readonly allowFailure?: boolean;
  /** Added to this process's environment. */
  readonly environment?: Readonly<Record<string, string>>;
  readonly workingDirectory?: string;
}

/** A program that could not be started, failed, or did not end. */
export class CommandError extends FlannelError {
  /** `missing` when the program is not installed, `timeout` when it did not end, else `failed`. */
  readonly reason: 'missing' | 'timeout' | 'failed';
  readonly result: CommandResult;

  constructor(message: string, reason: CommandError['reason'], result: CommandResult) {
    super('HOST', message);
    this.name = 'CommandError';
    this.reason = reason;
    this.result = result;
  }
}

const DEFAULT_TIMEOUT_MS = 30_000;
const MAX_OUTPUT_BYTES = 256 * 1024 * 1024;

/** Where Debian keeps the programs used here, so that an operator is not sent looking for them. */
const PACKAGE_OF: Readonly<Record<string, string>> = {
  ip: 'iproute2',
  iptables: 'iptables',
  'iptables-save': 'iptables',
  'iptables-restore': 'iptables',
  nft: 'nftables',
  etcd: 'etcd-server',
  tcpdump: 'tcpdump',
  iperf3: 'iperf3',
  nsenter: 'util-linux',
};

/**
 * The environment for programs: messages in English, whatever the operator's locale, and the folders of administrators'
 * programs in the search path, which `su` and some service managers leave out.
 */
export function commandEnvironment(added: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const path = process.env.PATH ?? '/usr/local/bin:/usr/bin:/bin';
  return { ...process.env, PATH: `${path}:/usr/local/sbin:/usr/sbin:/sbin`, LC_ALL: 'C', ...added };
}

/** The line of a program's complaint that says what went wrong: the first that is neither empty nor a `#` remark. */
function firstLine(text: string): string | undefined {
  return text
    .split('\n')
    .map((line) => line.trim())
    .find((line) => line !== '' && !line.startsWith('#'));
}

/**
 * How the functions of this folder run programs: `runCommand`, unless a caller works on another network namespace or
 * wants to see the commands.
 */
export type RunCommand = (command: string, args: readonly string[], options?: CommandOptions) => Promise<CommandResult>;

/**
 * Runs a program without a shell and collects what it prints.
 * @throws CommandError (a FlannelError `HOST`) when it is missing, does not end in time, or, without `allowFailure`,
 * ends with another status than 0; the message has the program's own first line of complaint.
 */
export function runCommand(
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const shown = [command, ...args].join(' ');
  return new Promise((resolve, reject) => {
    const child = execFile(
      command,
      args,
      {
        encoding: 'utf8',
        timeout: timeoutMs,
        killSignal: 'SIGKILL',
        maxBuffer: MAX_OUTPUT_BYTES,
        env: commandEnvironment(options.environment),
        cwd: options.workingDirectory,
      },
      (error, stdout, stderr) => {
        const result: CommandResult = { stdout, stderr, status: error === null ? 0 : statusOf(error) };
        if (error === null) {
          resolve(result);
        } else if (error.code === ('ENOENT' as unknown)) {
          const fix = PACKAGE_OF[command] === undefined ? '' : `: install the package ${PACKAGE_OF[command]}`;
          reject(new CommandError(`cannot run ${command}: there is no such program in PATH${fix}`, 'missing', result));
        } else if (error.killed === true) {
          reject(new CommandError(`\`${shown}\` did not end within ${timeoutMs / 1000} s`, 'timeout', result));
        } else if (options.allowFailure === true && typeof error.code !== 'string') {
          resolve(result);
        } else {
          const complaint = firstLine(stderr) ?? firstLine(stdout) ?? `it ended with status ${result.status}`;
          reject(new CommandError(`\`${shown}\` failed: ${complaint}`, 'failed', result));
        }
      },
    );
    // A program that ends before it has read everything closes the pipe; its exit status tells the story.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(options.input ?? '');
  });
}

function statusOf(error: { code?: number | string | null; signal?: NodeJS.Signals | null }): number {
  if (typeof error.code === 'number') return error.code;
  if (error.signal !== null && error.signal !== undefined) return 128 + constants.signals[error.signal];
  return 127;
}
