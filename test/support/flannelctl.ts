import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import type { TestContext } from 'node:test';
import type { CommandContext } from '../../src/flannelctl/context.js';
import { run } from '../../src/flannelctl/program.js';
import type { ErrorAnswer, LeaseAnswer, StatusAnswer, VersionAnswer } from '../../src/observe/control-protocol.js';

export interface CommandResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandSurroundings {
  readonly env?: Record<string, string>;
  readonly stdin?: string;
  /** Whether standard output is a terminal. */
  readonly terminal?: boolean;
}

/** Runs one command line of flannelctl in this process. */
export async function flannelctl(args: readonly string[], around: CommandSurroundings = {}): Promise<CommandResult> {
  const result = { stdout: '', stderr: '' };
  const context: CommandContext = {
    stdout: { write: (output) => (result.stdout += textOf(output)), isTTY: around.terminal === true },
    stderr: { write: (output) => (result.stderr += textOf(output)) },
    stdin: Readable.from(around.stdin === undefined ? [] : [Buffer.from(around.stdin)]),
    env: around.env ?? {},
    exitCode: 0,
  };
  const status = await run(args, context);
  return { status, ...result };
}

/** A folder that goes when the test ends, however it ends. */
export async function temporaryFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'flannelctl-test-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** What a daemon answers by path: a value for 200, a status and a body for anything else, raw text, or silence. */
export type Answer =
  | { readonly value: VersionAnswer | StatusAnswer | readonly LeaseAnswer[] }
  | { readonly status: number; readonly value: ErrorAnswer }
  | { readonly text: string }
  | 'silence'
  | 'hang up';

/** A real HTTP server on a unix socket that stands for the daemon; gives the socket's path. */
export async function daemonAnswering(t: TestContext, answers: Readonly<Record<string, Answer>>): Promise<string> {
  const socketPath = join(await temporaryFolder(t), 'flanneld.sock');
  const server: Server = createServer((request, response) => {
    const answer: Answer = answers[request.url ?? ''] ?? { status: 404, value: { error: 'no such path' } };
    if (answer === 'silence') return;
    if (answer === 'hang up') {
      request.socket.destroy();
    } else if ('text' in answer) {
      response.end(answer.text);
    } else {
      response.writeHead('status' in answer ? answer.status : 200, { 'content-type': 'application/json' });
      response.end(JSON.stringify(answer.value));
    }
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  t.after(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return socketPath;
}

function textOf(output: string | Uint8Array): string {
  return typeof output === 'string' ? output : Buffer.from(output).toString();
}
