/** The folder in which fuzzing keeps its programs, its inputs and what it finds. */
import { accessSync, constants, mkdirSync, statSync } from 'node:fs';
import { FlannelError, fileErrorMessage } from '../../src/errors.js';
import { ROOT } from '../harness/daemon.js';

/**
 * Makes a folder of this checkout, unless it is there.
 * @throws FlannelError when this user may not write to it
 */
export function makeOwnFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true });
    accessSync(folder, constants.W_OK);
  } catch (error) {
    const remedy = `run this as the checkout's owner (user ${statSync(ROOT).uid}), or in a checkout of your own`;
    throw new FlannelError('HOST', `${folder} cannot be written to (${fileErrorMessage(error)}): ${remedy}`);
  }
}
