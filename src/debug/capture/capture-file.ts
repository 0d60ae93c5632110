import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { parse, format } from 'node:path';
import { FlannelError, fileErrorMessage } from '../../errors.js';
import { VERSION } from '../../version.js';
import {
  enhancedPacket,
  interfaceDescription,
  interfaceStatistics,
  sectionHeader,
  type CaptureInterface,
  type CapturedPacket,
} from './pcapng.js';

/** Where the bytes of one capture file go. */
export interface CaptureOutput {
  write(bytes: Buffer): void;
  close(): void;
}

/** Gives the output of file `number`, from 1. */
export type OpenOutput = (number: number) => CaptureOutput;

/** Writes captured packets to a file, and goes on in another when that has become large. */
export class CaptureWriter {
  private output: CaptureOutput;
  private number = 1;
  private bytes = 0;
  private received: number[] = [];
  private missing = 0;
  private missingInFile = 0;
  private latestNs = 0n;

  /** @param maxFileBytes - a file that has become this large is the last but one */
  constructor(
    private readonly interfaces: readonly CaptureInterface[],
    private readonly open: OpenOutput,
    private readonly maxFileBytes = Infinity,
  ) {
    this.output = this.begin();
  }

  /** Appends packets that belong together: they go into the same file. */
  write(packets: readonly CapturedPacket[]): void {
    if (packets.length === 0) return;
    if (this.bytes >= this.maxFileBytes) {
      this.finish();
      this.number++;
      this.output = this.begin();
    }
    for (const packet of packets) {
      this.received[packet.interfaceIndex]++;
      if (packet.timeNs > this.latestNs) this.latestNs = packet.timeNs;
    }
    this.append(Buffer.concat(packets.map(enhancedPacket)));
  }

  /** @param records - that the capture has lost altogether, since it began */
  lost(records: number): void {
    this.missingInFile += records - this.missing;
    this.missing = records;
  }

  /** How many files there have been, the one that is written included. */
  get files(): number {
    return this.number;
  }

  /** Completes the file. */
  close(): void {
    this.finish();
  }

  private begin(): CaptureOutput {
    this.output = this.open(this.number);
    this.bytes = 0;
    this.received = this.interfaces.map(() => 0);
    this.missingInFile = 0;
    this.append(Buffer.concat([sectionHeader(`flannelctl ${VERSION}`), ...this.interfaces.map(interfaceDescription)]));
    return this.output;
  }

  private finish(): void {
    // Before there was a packet there is no time to write.
    if (this.latestNs > 0n) {
      const statistics = this.received.map((received, index) =>
        interfaceStatistics(index, this.latestNs, received, this.missingInFile),
      );
      this.append(Buffer.concat(statistics));
    }
    this.output.close();
  }

  private append(bytes: Buffer): void {
    this.output.write(bytes);
    this.bytes += bytes.length;
  }
}

/**
 * Files by number: `FILE.pcapng`, then `FILE-2.pcapng` and so on, the latest `keep` of which stay.
 * @throws FlannelError `HOST` when one cannot be written
 */
export function numberedFiles(path: string, keep = Infinity): OpenOutput {
  return (number) => {
    const descriptor = attempt(path, () => openSync(captureFileName(path, number), 'w', 0o600));
    if (number > keep) rmSync(captureFileName(path, number - keep), { force: true });
    return {
      write: (bytes) => attempt(path, () => writeAll(descriptor, bytes)),
      close: () => closeSync(descriptor),
    };
  };
}

/** The name of the file of a number, from 1: `FILE.pcapng`, `FILE-2.pcapng`. */
export function captureFileName(path: string, number: number): string {
  if (number === 1) return path;
  const { dir, name, ext } = parse(path);
  return format({ dir, name: `${name}-${number}`, ext });
}

function writeAll(descriptor: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length;) at += writeSync(descriptor, bytes, at);
}

function attempt<T>(path: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw new FlannelError('HOST', `cannot write the capture ${path}: ${fileErrorMessage(error)}`, { cause: error });
  }
}
