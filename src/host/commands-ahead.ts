import { runCommand, type CommandResult, type RunCommand } from './command.js';

/**
 * Programs that are run before anybody asks for what they print, for it takes longer to start one than to be asked.
 * Whoever asks until `end` gets that answer; any other program, and each one after it, is run when it is asked for.
 */
export class CommandsAhead {
  readonly #answers = new Map<string, Promise<CommandResult>>();
  readonly #run: RunCommand;

  /** @param commands - each a program and its arguments, which are to change nothing */
  constructor(commands: readonly (readonly [program: string, ...args: string[]])[], run: RunCommand = runCommand) {
    this.#run = run;
    for (const [program, ...args] of commands) {
      const answer = run(program, args);
      // Whoever asks is told.
      answer.catch(() => undefined);
      this.#answers.set(keyOf(program, args), answer);
    }
  }

  readonly run: RunCommand = (program, args, options) => {
    const answer = options === undefined ? this.#answers.get(keyOf(program, args)) : undefined;
    return answer ?? this.#run(program, args, options);
  };

  /** Forgets the answers: from now on they would be old. */
  end(): void {
    this.#answers.clear();
  }
}

function keyOf(program: string, args: readonly string[]): string {
  return [program, ...args].join('\0');
}
