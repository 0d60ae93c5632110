/**
 * What a lab leaves on disk while it lives: one folder with `lab.json` (the plan and the processes) and a folder for
 * each machine with its logs, sockets and data. The folder's name is the lab's claim to its name.
 */
import { mkdirSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FlannelError, errorMessage } from '../errors.js';
import type { LabPlan } from './plan.js';
import { bootId, isRunning, recordProcess, type ProcessRecord } from './process-record.js';

/** Here rather than in /run, which is memory on most machines: etcd and Docker keep data. */
const STATE_ROOT = '/var/lib/flannelette';
const FORMAT = 1;

/** A program that a lab runs. */
export interface LabProcess extends ProcessRecord {
  /** `etcd`, `flanneld` or `dockerd`. */
  readonly program: string;
  /** The place it runs in. */
  readonly place: string;
  /** The file that runs, for `flanneld`: another checkout of this project runs its own. */
  readonly path?: string;
}

export interface LabState {
  readonly format: number;
  readonly plan: LabPlan;
  readonly createdAt: string;
  readonly bootId: string;
  /** The process that brings it up, or that needs it to be up. */
  readonly owner: ProcessRecord | null;
  /** `starting` until everything runs. */
  readonly phase: 'starting' | 'up';
  readonly processes: readonly LabProcess[];
}

/** The folder of a lab. */
export function labFolder(name: string): string {
  return join(STATE_ROOT, `lab-${name}`);
}

/** The folder of one of its machines. */
export function placeFolder(lab: string, place: string): string {
  return join(labFolder(lab), place);
}

/**
 * Takes the lab's name for this process.
 * @returns the new state, or `undefined` when a folder of that name exists already
 */
export async function claimLab(plan: LabPlan): Promise<LabState | undefined> {
  const state: LabState = {
    format: FORMAT,
    plan,
    createdAt: new Date().toISOString(),
    bootId: bootId(),
    owner: recordProcess(process.pid) ?? null,
    phase: 'starting',
    processes: [],
  };
  try {
    mkdirSync(STATE_ROOT, { recursive: true, mode: 0o755 });
  } catch (error) {
    throw new FlannelError('LAB', `cannot make ${STATE_ROOT}: ${errorMessage(error)}`, { cause: error });
  }
  // The folder appears with its file in it, in one step: whoever sees it can read whose it is.
  const folder = await mkdtemp(join(STATE_ROOT, '.new-'));
  try {
    await writeFile(join(folder, 'lab.json'), JSON.stringify(state, null, 2));
    await rename(folder, labFolder(plan.name));
    return state;
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    if (['ENOTEMPTY', 'EEXIST'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw new FlannelError('LAB', `cannot make ${labFolder(plan.name)}: ${errorMessage(error)}`, { cause: error });
  }
}

/** Writes a state; a reader sees the old one or the new one. */
export async function saveState(state: LabState): Promise<void> {
  const file = join(labFolder(state.plan.name), 'lab.json');
  await writeFile(`${file}.new`, JSON.stringify(state, null, 2));
  await rename(`${file}.new`, file);
}

/** The state of a lab; `undefined` when there is none, or none that this release can read. */
export async function loadState(name: string): Promise<LabState | undefined> {
  try {
    const state = JSON.parse(await readFile(join(labFolder(name), 'lab.json'), 'utf8')) as LabState;
    return state.format === FORMAT ? state : undefined;
  } catch {
    return undefined;
  }
}

/** Names of all labs that have a folder. */
export async function labNames(): Promise<string[]> {
  const entries = await readdir(STATE_ROOT).catch(() => []);
  return entries
    .filter((entry) => entry.startsWith('lab-'))
    .map((entry) => entry.slice('lab-'.length))
    .sort();
}

/** Whether a process of this boot still is at work on the lab. */
export function ownerRuns(state: LabState): boolean {
  return state.bootId === bootId() && state.owner !== null && isRunning(state.owner);
}

/** Makes the folder of a machine of the lab and gives its path. */
export async function makePlaceFolder(lab: string, place: string): Promise<string> {
  const folder = placeFolder(lab, place);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  return folder;
}

/** Whether somebody still wants the lab: the process that builds or uses it, or, without one, its user. */
export function inUse(state: LabState): boolean {
  return state.owner === null ? state.phase === 'up' && state.bootId === bootId() : ownerRuns(state);
}
