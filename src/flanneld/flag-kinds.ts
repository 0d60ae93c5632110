import { parseGoBoolean, parseGoInteger, type Flag } from './go-flags.js';

/** The parts `--help` is divided into, in its order. */
export const FLAG_GROUPS = [
  'etcd',
  'Underlay',
  'Lease',
  'Firewall and routes',
  'Health and logs',
  "This project's own",
  'Kubernetes, not built yet: refused when set',
  "klog's, accepted and of no use",
] as const;

/** One flag of `flanneld`, with what its documentation says of it. */
export interface FlanneldFlag<T> extends Flag<T> {
  readonly group: (typeof FLAG_GROUPS)[number];
  readonly description: string;
  /** What a bare number counts. */
  readonly unit?: 'seconds' | 'minutes' | 'bytes';
  /**
   * `used`: does something. `no-use`: taken so that flannel's command lines work, and does nothing here.
   * `unbuilt`: belongs to a feature that does not exist yet, so setting it is refused by name.
   */
  readonly status: 'used' | 'no-use' | 'unbuilt';
  /** For unbuilt flags: the value that switches the feature off, and so can be honoured. */
  readonly off?: T;
  /** Asks for one action and an exit; not taken from the environment. */
  readonly action?: boolean;
}

/** What is said of a flag, whatever its kind. */
export interface FlagDescription {
  readonly group: (typeof FLAG_GROUPS)[number];
  readonly description: string;
  readonly status?: 'used' | 'no-use' | 'unbuilt';
  readonly unit?: 'seconds' | 'minutes' | 'bytes';
  readonly action?: boolean;
}

/** A flag that stands bare, or takes `=` and a value of Go's ParseBool. */
export function boolean(about: FlagDescription, value: boolean): FlanneldFlag<boolean> {
  const off = about.status === 'unbuilt' ? { off: false } : {};
  const expected = 'true or false';
  return {
    status: 'used',
    ...about,
    ...off,
    boolean: true,
    placeholder: '',
    default: value,
    expected,
    parse: parseGoBoolean,
  };
}

/** A whole number within bounds. */
export function integer(about: FlagDescription, value: number, minimum: number, maximum: number): FlanneldFlag<number> {
  const what = about.unit === undefined ? 'a whole number' : `a whole number of ${about.unit}`;
  return {
    status: 'used',
    ...about,
    boolean: false,
    placeholder: about.unit?.toUpperCase() ?? 'NUMBER',
    default: value,
    expected: `${what} from ${minimum} to ${maximum}`,
    parse(text) {
      const number = parseGoInteger(text);
      return number === undefined || number < minimum || number > maximum ? undefined : number;
    },
  };
}

/** A string that `accepts` may narrow; an empty one always passes, for that is how a unit file leaves a flag unset. */
export function text(
  about: FlagDescription,
  value: string,
  placeholder: string,
  expected = 'text',
  accepts: (text: string) => boolean = () => true,
): FlanneldFlag<string> {
  const off = about.status === 'unbuilt' ? { off: '' } : {};
  const parse = (given: string): string | undefined => (given === '' || accepts(given) ? given : undefined);
  return { status: 'used', ...about, ...off, boolean: false, placeholder, default: value, expected, parse };
}

/** One of a few words. */
export function choice<T extends string>(about: FlagDescription, choices: readonly T[], value: T): FlanneldFlag<T> {
  return {
    status: 'used',
    ...about,
    boolean: false,
    placeholder: choices.join('|'),
    default: value,
    expected: choices.slice(0, -1).join(', ') + ' or ' + choices[choices.length - 1],
    parse: (given) => choices.find((one) => one === given),
  };
}

/** A repeatable flag. Empty values add nothing. */
export function list<T>(
  about: FlagDescription,
  placeholder: string,
  expected: string,
  parseOne: (text: string) => T | undefined,
  splitEnvironment?: RegExp,
): FlanneldFlag<readonly T[]> {
  return {
    status: 'used',
    ...about,
    boolean: false,
    placeholder,
    default: [],
    expected,
    splitEnvironment,
    parse(given) {
      if (given === '') return [];
      const value = parseOne(given);
      return value === undefined ? undefined : [value];
    },
    join: (before, more) => [...before, ...more],
  };
}
