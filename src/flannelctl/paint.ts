import type { CommandContext, TextSink } from './context.js';

/** Marks text by its meaning; on anything but a terminal the text comes back as it is. */
export interface Paint {
  good(text: string): string;
  bad(text: string): string;
  warning(text: string): string;
  strong(text: string): string;
  faint(text: string): string;
}

/**
 * The paint for a sink: colours on a terminal, unless `NO_COLOR` is set to anything (https://no-color.org) or the
 * terminal says that it has none. The codes are SGR of ECMA-48; Node's own `styleText` is younger than Node 20.0.
 */
export function paintFor(sink: TextSink, env: CommandContext['env']): Paint {
  const coloured = sink.isTTY === true && (env.NO_COLOR ?? '') === '' && env.TERM !== 'dumb';
  const code = (on: number, off: number) => (text: string) =>
    coloured && text !== '' ? `\x1b[${on}m${text}\x1b[${off}m` : text;
  return { good: code(32, 39), bad: code(31, 39), warning: code(33, 39), strong: code(1, 22), faint: code(2, 22) };
}
