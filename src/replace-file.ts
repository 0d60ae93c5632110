import { mkdir, open, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/**
 * Writes a file whole or not at all: into a temporary one beside it, onto the disk, then renamed over the old one. A
 * missing folder is created. Rejects with the error of the file system.
 * @param content - whole, or in pieces, each of which is written before the next is asked for
 * @param mode - whatever the umask
 */
export async function replaceFile(path: string, content: string | Iterable<string>, mode: number): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}`);
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o755 });
    // Left by a run that was killed half way; its mode may be anything.
    await rm(temporary, { force: true });
    const file = await open(temporary, 'wx', mode);
    try {
      // The umask may have taken bits away.
      await file.chmod(mode);
      await writeFile(file, content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw error;
  }
}
