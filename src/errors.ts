/**
 * Every error this project raises on purpose. A message says what was wrong, where, and what to do, on one line;
 * `code` is stable, so that scripts and tests never match on wording.
 */
export type ErrorCode =
  | 'USAGE' // a flag, an argument or an environment variable
  | 'CONFIG' // the network configuration in the store
  | 'STORE' // the store could not be reached, or refused
  | 'LEASE' // no subnet to be had, or a lease in other hands
  | 'INTERFACE' // no fitting external interface
  | 'HOST' // a command, file or device of this machine failed
  | 'BACKEND' // a backend cannot do what the configuration asks of it
  | 'CONTROL' // the control socket
  | 'LAB'; // a lab on this machine

/** An error whose message is meant for a person; everything else that reaches the top is a bug. */
export class FlannelError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'FlannelError';
    this.code = code;
  }
}

/** A flag, argument or environment variable that cannot be used: exit status 2. */
export class UsageError extends FlannelError {
  constructor(message: string) {
    super('USAGE', message);
    this.name = 'UsageError';
  }
}

/** What an agent hands over is of no use to the next one, whose flags ask for something else. */
export class MisfitError extends FlannelError {
  constructor(message: string) {
    super('BACKEND', message);
    this.name = 'MisfitError';
  }
}

/** The network configuration is absent or invalid; it may be repaired in the store at any time. */
export class NetworkConfigError extends FlannelError {
  constructor(message: string) {
    super('CONFIG', message);
    this.name = 'NetworkConfigError';
  }
}

/** Why a file could not be used: Node's message without its code, its system call and the path, which the caller names. */
export function fileErrorMessage(error: unknown): string {
  return errorMessage(error)
    .replace(/^E[A-Z0-9]+: /, '')
    .replace(/, [a-z]+(?: '.*')?$/, '');
}

/** The one line to show for anything that was thrown: never a stack trace. */
export function errorMessage(error: unknown): string {
  const text = error instanceof Error ? error.message || error.name : String(error);
  return text.replace(/\s*\n\s*/g, ' ').trim();
}
