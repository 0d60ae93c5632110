/** Ends labs and takes names: all that has to cope with what another process left, or still does. */
import { rm } from 'node:fs/promises';
import { FlannelError } from '../errors.js';
import { removeContainers, removeControlGroups } from './docker.js';
import { removeNamespaces } from './namespace.js';
import { namespacesOf, removeNameResolution } from './network.js';
import type { LabPlan } from './plan.js';
import { bootId, endProcesses, isRunning, signal, withDescendants } from './process-record.js';
import { claimLab, inUse, labFolder, labNames, loadState, type LabState } from './state.js';

/** Told of every step that is done. */
export type Progress = (step: string) => void;

/** Takes the name, clearing away what a killed `up` or an earlier boot left of a lab of that name. */
export async function takeName(plan: LabPlan, progress: Progress): Promise<LabState> {
  const claimed = await claimLab(plan);
  if (claimed !== undefined) return claimed;
  const found = await loadState(plan.name);
  if (found !== undefined && inUse(found)) {
    const how = found.phase === 'up' ? 'is up' : `is being brought up by process ${found.owner?.pid}`;
    throw new FlannelError(
      'LAB',
      `lab "${plan.name}" ${how}: take it down with "flannelctl lab down --name ${plan.name}", or choose another --name`,
    );
  }
  progress(`taking down what is left of an earlier lab "${plan.name}"`);
  await tearDown(plan.name, () => undefined);
  const second = await claimLab(plan);
  if (second === undefined) throw new FlannelError('LAB', `lab "${plan.name}" is being brought up by another process`);
  return second;
}

/**
 * Removes all of a lab: what runs in it, its namespaces, its files.
 * @returns whether there was anything
 */
export async function tearDown(name: string, progress: Progress): Promise<boolean> {
  const state = await loadState(name);
  const namespaces = await namespacesOf(name);
  const known = (await labNames()).includes(name);
  if (!known && namespaces.length === 0) return false;

  const sameBoot = state !== undefined && state.bootId === bootId();
  if (sameBoot && state.plan.runtime === 'docker') {
    await removeContainers(state.plan);
    progress('containers and Docker engines');
  }
  // Everything that runs in the lab, its recorded daemons and what they started, wherever that has gone since.
  const inside = (await Promise.all(namespaces.map((namespace) => namespace.processes()))).flat();
  const recorded = sameBoot ? state.processes.filter(isRunning) : [];
  const all = withDescendants([...inside, ...recorded.map((record) => record.pid)]).filter(
    ({ pid }) => pid !== process.pid,
  );
  for (const record of all) signal(record, 'SIGCONT');
  await endProcesses(all);
  progress(`${all.length} processes`);
  await removeNamespaces(namespaces);
  progress(`${namespaces.length} network namespaces`);
  if (state?.plan.runtime === 'docker') await removeControlGroups(state.plan);
  await removeNameResolution(name);
  await rm(labFolder(name), { recursive: true, force: true, maxRetries: 3 });
  progress(labFolder(name));
  return true;
}
