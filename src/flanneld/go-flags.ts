import { UsageError } from '../errors.js';

/**
 * Go's flag syntax, which flanneld's users have in their unit files: one dash or two, `=` or a space before the value,
 * booleans bare or with `=` only, `--` ends the flags. https://pkg.go.dev/flag describes it.
 */

/** What a flag takes, and how its text becomes a value. */
export interface Flag<T> {
  /** Booleans may stand bare, and never take the next argument as their value. */
  readonly boolean: boolean;
  /** How the value is called in `--help`: `PATH`, `IP`. Empty for booleans. */
  readonly placeholder: string;
  readonly default: T;
  /** What a value must be, to complete "expected …". */
  readonly expected: string;
  /** `undefined` when the text is not what was expected. */
  parse(text: string): T | undefined;
  /** Joins a second occurrence to the first; without it the last one wins, as in Go. */
  join?(before: T, more: T): T;
  /** Splits the text of the environment variable, which can be given only once, into several values. */
  readonly splitEnvironment?: RegExp;
}

/** The values of a table of flags, by name. */
export type FlagValues<Table extends Readonly<Record<string, Flag<unknown>>>> = {
  [Name in keyof Table]: Table[Name] extends Flag<infer T> ? T : never;
};

/** What was given, and where each value came from: for messages that must name the culprit. */
export interface ParsedFlags<Table extends Readonly<Record<string, Flag<unknown>>>> {
  readonly values: FlagValues<Table>;
  /** `--name` or `FLANNELD_NAME`, for the flags that were set at all. */
  readonly origins: ReadonlyMap<keyof Table & string, string>;
  /** `-h` or `--help` was met; nothing after it was looked at. */
  readonly help: boolean;
}

/** The environment variable of a flag: `etcd-prefix` is `FLANNELD_ETCD_PREFIX`. */
export function environmentName(prefix: string, flag: string): string {
  return `${prefix}_${flag.toUpperCase().replaceAll('-', '_')}`;
}

/**
 * Reads a command line.
 * @throws UsageError naming the flag and what was expected
 */
export function parseCommandLine<Table extends Readonly<Record<string, Flag<unknown>>>>(
  table: Table,
  args: readonly string[],
): ParsedFlags<Table> {
  const values: Record<string, unknown> = {};
  for (const [name, flag] of Object.entries(table)) values[name] = flag.default;
  const origins = new Map<string, string>();
  let help = false;
  let previousBoolean: string | undefined;

  for (let i = 0; i < args.length; i++) {
    const argument = args[i];
    if (argument === '--') {
      if (i + 1 < args.length) throw unexpectedArgument(args[i + 1], undefined);
      break;
    }
    if (!argument.startsWith('-') || argument === '-') throw unexpectedArgument(argument, previousBoolean);
    const body = argument.slice(argument.startsWith('--') ? 2 : 1);
    const equals = body.indexOf('=');
    const name = equals < 0 ? body : body.slice(0, equals);
    if (name === 'h' || name === 'help') {
      help = true;
      break;
    }
    if (!Object.hasOwn(table, name)) throw unknownFlag(table, argument, name);
    const flag = table[name];
    const shown = `--${name}`;
    let text: string;
    if (equals >= 0) text = body.slice(equals + 1);
    else if (flag.boolean) text = 'true';
    else if (i + 1 < args.length) text = args[++i];
    else throw new UsageError(`${shown} needs a value: expected ${flag.expected}`);
    setValue(flag, values, name, text, shown, origins.has(name));
    origins.set(name, shown);
    previousBoolean = flag.boolean && equals < 0 ? shown : undefined;
  }
  return { values: values as FlagValues<Table>, origins, help };
}

/**
 * Adds what the environment says about flags the command line left alone. An empty variable counts as unset.
 * @param skip flags that are taken from the command line only
 * @throws UsageError naming the variable and what was expected
 */
export function addEnvironment<Table extends Readonly<Record<string, Flag<unknown>>>>(
  table: Table,
  parsed: ParsedFlags<Table>,
  prefix: string,
  environment: Readonly<Record<string, string | undefined>>,
  skip: ReadonlySet<string>,
): ParsedFlags<Table> {
  const values: Record<string, unknown> = { ...parsed.values };
  const origins = new Map<string, string>(parsed.origins);
  for (const [name, flag] of Object.entries(table)) {
    if (skip.has(name) || origins.has(name)) continue;
    const variable = environmentName(prefix, name);
    const text = environment[variable];
    if (text === undefined || text === '') continue;
    const parts = flag.splitEnvironment === undefined ? [text] : text.split(flag.splitEnvironment);
    for (const [index, part] of parts.entries()) setValue(flag, values, name, part, variable, index > 0);
    origins.set(name, variable);
  }
  return { values: values as FlagValues<Table>, origins, help: parsed.help };
}

/** The known name nearest to a mistyped one, if any is near enough to be meant. */
export function nearestName(names: Iterable<string>, typed: string): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(typed.length / 4)) + 1;
  for (const name of names) {
    const distance = editDistance(name.replaceAll('_', '-'), typed.replaceAll('_', '-'));
    if (distance < bestDistance) {
      best = name;
      bestDistance = distance;
    }
  }
  return best;
}

function setValue(
  flag: Flag<unknown>,
  values: Record<string, unknown>,
  name: string,
  text: string,
  origin: string,
  again: boolean,
): void {
  const value = flag.parse(text);
  if (value === undefined) throw new UsageError(`${origin}: expected ${flag.expected}, not ${quote(shownText(text))}`);
  values[name] = again && flag.join !== undefined ? flag.join(values[name], value) : value;
}

function unexpectedArgument(argument: string, previousBoolean: string | undefined): UsageError {
  const hint =
    previousBoolean !== undefined && parseGoBoolean(argument) !== undefined
      ? `a boolean's value needs "=": ${previousBoolean}=${argument}`
      : 'only flags are taken, see --help';
  return new UsageError(`unexpected argument ${quote(argument)}: ${hint}`);
}

function unknownFlag(table: object, argument: string, name: string): UsageError {
  const shown = argument.split('=', 1)[0];
  if (name === '' || name.startsWith('-')) {
    return new UsageError(`${quote(argument)} is not a flag: expected --name or --name=value, see --help`);
  }
  const near = nearestName(Object.keys(table), name);
  const hint = near === undefined ? 'see --help for all there are' : `did you mean --${near}?`;
  return new UsageError(`unknown flag ${shown}: ${hint}`);
}

/** A URL without what stands before an @, which may be a password. */
function shownText(text: string): string {
  return text.replace(/\/\/[^/,]*@/g, '//…@');
}

/** Quotes what a user typed, on one line. */
function quote(text: string): string {
  return JSON.stringify(text);
}

/** Go's strconv.ParseBool. */
export function parseGoBoolean(text: string): boolean | undefined {
  if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(text)) return true;
  if (['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(text)) return false;
  return undefined;
}

/** Go's strconv.ParseInt with base 0, as far as JavaScript counts exactly: decimal, 0x, 0o (or a leading 0), 0b. */
export function parseGoInteger(text: string): number | undefined {
  const match = /^([+-]?)(?:(0[xX][0-9a-fA-F]+)|(0[bB][01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))$/.exec(text);
  if (match === null) return undefined;
  const magnitude = match[4] === undefined ? Number(match[2] ?? match[3] ?? match[5]) : Number.parseInt(match[4], 8);
  if (!Number.isSafeInteger(magnitude)) return undefined;
  return match[1] === '-' && magnitude !== 0 ? -magnitude : magnitude;
}

/** Insertions, deletions, substitutions and swaps of neighbours between two names (optimal string alignment). */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = last[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      row[j] = Math.min(last[j] + 1, row[j - 1] + 1, substitution);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        row[j] = Math.min(row[j], beforeLast[j - 2] + 1);
      }
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length];
}
