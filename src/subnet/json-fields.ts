import { errorMessage } from '../errors.js';

/**
 * A JSON object read by field name as Go's encoding/json reads it into a struct: names match without regard to case,
 * the last of several matches counts, and `null` leaves a field as it was.
 */
export class JsonFields {
  private constructor(
    private readonly entries: readonly (readonly [string, unknown])[],
    private readonly path: string,
    private readonly error: (message: string) => Error,
  ) {}

  /**
   * `undefined` when the value is no JSON object.
   * @param path - stands before names in messages (`Backend.`)
   * @param error - makes what is thrown for a field of the wrong type
   */
  static of(value: unknown, path: string, error: (message: string) => Error): JsonFields | undefined {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
    return new JsonFields(Object.entries(value), path, error);
  }

  /** Throws when the field is neither a string nor absent. */
  string(name: string): string | undefined {
    const value = this.find(name);
    if (value === undefined || value === null) return undefined;
    if (typeof value !== 'string') throw this.unexpected(name, value, 'a string');
    return value;
  }

  /** Throws when the field is neither a boolean nor absent. */
  boolean(name: string, fallback: boolean): boolean {
    const value = this.find(name);
    if (value === undefined || value === null) return fallback;
    if (typeof value !== 'boolean') throw this.unexpected(name, value, 'true or false');
    return value;
  }

  /** A whole number above zero; zero stands for "not set", as in flannel. Throws when the field is anything else. */
  unsigned(name: string): number | undefined {
    const value = this.unsignedOrZero(name);
    return value === 0 ? undefined : value;
  }

  /** Throws when the field is neither a whole number of zero or more nor absent. */
  unsignedOrZero(name: string): number | undefined {
    const value = this.find(name);
    if (value === undefined || value === null) return undefined;
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
      throw this.unexpected(name, value, 'a whole number');
    }
    return value;
  }

  /** Throws when the field is neither an object nor absent; `null` is no object. */
  object(name: string): JsonFields | undefined {
    const value = this.find(name);
    if (value === undefined) return undefined;
    const fields = JsonFields.of(value, `${this.path}${name}.`, this.error);
    if (fields === undefined) throw this.unexpected(name, value, 'an object such as {"Type": "udp"}');
    return fields;
  }

  /** Whatever the field holds; `undefined` when it is absent. */
  raw(name: string): unknown {
    return this.find(name);
  }

  /** The names that match none of `known`. */
  unknownKeys(known: readonly string[]): string[] {
    const folded = new Set(known.map(fold));
    return this.entries.map(([key]) => key).filter((key) => !folded.has(fold(key)));
  }

  private find(name: string): unknown {
    const wanted = fold(name);
    return this.entries.findLast(([key]) => fold(key) === wanted)?.[1];
  }

  private unexpected(name: string, value: unknown, expected: string): Error {
    return this.error(`${this.path}${name} ${quoted(value)}: expected ${expected}`);
  }
}

/** A value for a message, cut off where it would fill more than a line. */
export function quoted(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

/** Go folds two letters beyond ASCII onto ASCII ones as well: the long s (U+017F) and the Kelvin sign (U+212A). */
function fold(key: string): string {
  return key.toLowerCase().replace(/\u017f/g, 's');
}

/**
 * Reads JSON that anybody may have written. The message of the error quotes a piece of the text, without the control
 * characters that could drive a terminal.
 * @throws Error `not JSON (…)`
 */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    // eslint-disable-next-line no-control-regex
    throw new Error(`not JSON (${errorMessage(error).replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ')})`, {
      cause: error,
    });
  }
}
