import type { TapEvent, TapHello, TapLoss, TapRequest } from '../observe/tap-protocol.js';
import { printLines, type CommandContext } from './context.js';
import type { ControlClient } from './control-client.js';
import { wordPlural } from './wording.js';

/** When to end without being told to. */
export interface WatchLimits {
  readonly count?: number;
  readonly durationMs?: number;
}

/** What a command does with what it is shown. */
export interface PacketWatcher {
  /** Once, before the first packet. */
  begin?(hello: TapHello): void;
  packet(event: TapEvent, hello: TapHello): void;
  /** Records that did not come, since the beginning. */
  lost?(loss: TapLoss): void;
}

/**
 * Shows a watcher the packets that a request asks for, until a limit is reached, a signal (SIGINT, SIGTERM) comes, or
 * nobody reads the output any more.
 * @returns what has been lost
 * @throws FlannelError `CONTROL` when the daemon refuses, or ends
 */
export async function watchPackets(
  client: ControlClient,
  request: TapRequest,
  limits: WatchLimits,
  context: CommandContext,
  watcher: PacketWatcher,
): Promise<TapLoss> {
  const end = new AbortController();
  const stop = (): void => end.abort();
  const timer = limits.durationMs === undefined ? undefined : setTimeout(stop, limits.durationMs);
  process.on('SIGINT', stop).on('SIGTERM', stop);
  context.onOutputClosed = stop;
  let loss: TapLoss = { ring: 0, reader: 0 };
  let left = limits.count ?? Infinity;
  let hello: TapHello | undefined;
  try {
    for await (const frame of client.tap(request, end.signal)) {
      if (end.signal.aborted) break;
      if (frame.kind === 'loss') {
        loss = frame.loss;
        watcher.lost?.(loss);
      } else if (frame.kind === 'hello') {
        hello = frame.hello;
        watcher.begin?.(hello);
        printLines(context.stderr, [`flannelctl: watching ${hello.device} of node ${hello.node}; Ctrl-C ends`]);
      } else if (hello !== undefined) {
        watcher.packet(frame.event, hello);
        if (--left === 0) break;
      }
    }
    return loss;
  } finally {
    clearTimeout(timer);
    process.off('SIGINT', stop).off('SIGTERM', stop);
    context.onOutputClosed = undefined;
  }
}

/** One line on what has been lost, and what helps; nothing when nothing was. */
export function describeLoss({ ring, reader }: TapLoss): string | undefined {
  if (ring + reader === 0) return undefined;
  const where: string[] = [];
  if (ring > 0) where.push(`${wordPlural(ring, 'record')} found no room at the workers`);
  if (reader > 0) where.push(`${wordPlural(reader, 'record')} came faster than they were read here`);
  return `${where.join(', ')}; the packets themselves passed: ask for fewer with a filter, --drops or --sample`;
}
