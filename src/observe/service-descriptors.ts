/**
 * The descriptor store of the service manager (sd_notify(3), "FDSTORE=1"; systemd's FileDescriptorStoreMax): copies of
 * descriptors go to it while the agent runs, and come back to the next one as sd_listen_fds(3) says.
 */
import type { DescriptorStore, StoredDescriptor } from '../backend/descriptor-store.js';
import { errorMessage } from '../errors.js';
import type { Logger } from '../log.js';
import type { DatagramSender } from './sd-notify.js';

/** The first descriptor that is passed. */
const LISTEN_FDS_START = 3;

/** More than any agent keeps; what promises more is no service manager. */
const MAX_LISTEN_FDS = 1024;

/** What the store is reached by. */
export interface ServiceDescriptorCalls {
  readonly send: DatagramSender;
  /** Waits until all that was sent has been dealt with. Throws when that cannot be told. */
  barrier(path: string): void;
  /** Keeps a descriptor from programs that this process runs. */
  keepFromChildren(fd: number): void;
}

/** The service manager as a {@link DescriptorStore}; it never throws for a manager that does not keep descriptors. */
export class ServiceDescriptors implements DescriptorStore {
  readonly #path: string;
  readonly #calls: ServiceDescriptorCalls;
  readonly #logger: Logger;
  #passed: readonly StoredDescriptor[];
  readonly #kept: Set<string>;
  #failed = false;

  /**
   * The store of this process's service manager; `undefined` without `NOTIFY_SOCKET`. Reads the variables of
   * sd_listen_fds(3) and removes them, for they mean nothing to programs that are run from here.
   */
  static open(
    environment: Record<string, string | undefined>,
    pid: number,
    calls: ServiceDescriptorCalls,
    logger: Logger,
  ): ServiceDescriptors | undefined {
    const passed = passedDescriptors(environment, pid);
    for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']) delete environment[name];
    const path = environment.NOTIFY_SOCKET;
    if (path === undefined || !/^[/@]/.test(path)) return undefined;
    return new ServiceDescriptors(path, passed, calls, logger);
  }

  private constructor(
    path: string,
    passed: readonly StoredDescriptor[],
    calls: ServiceDescriptorCalls,
    logger: Logger,
  ) {
    this.#path = path;
    this.#calls = calls;
    this.#logger = logger;
    this.#kept = new Set(passed.map(({ name }) => name));
    this.#passed = passed.filter(({ fd }) => this.#keepFromChildren(fd));
    const missing = passed.length - this.#passed.length;
    if (missing > 0) logger.warn(`of ${passed.length} descriptors that LISTEN_FDS promises ${missing} are not there`);
  }

  /** Whether it is there at all. */
  #keepFromChildren(fd: number): boolean {
    try {
      this.#calls.keepFromChildren(fd);
      return true;
    } catch {
      return false;
    }
  }

  /** Whether an earlier process has left any that nobody has taken yet. */
  get waiting(): boolean {
    return this.#passed.length > 0;
  }

  take(): readonly StoredDescriptor[] {
    const passed = this.#passed;
    this.#passed = [];
    return passed;
  }

  keep(name: string, fd: number): void {
    if (this.#kept.has(name)) this.#send(`FDSTOREREMOVE=1\nFDNAME=${name}`);
    this.#kept.add(name);
    // Without FDPOLL=0 an error that waits on the socket, such as an ICMP error, would cost it its place.
    this.#send(`FDSTORE=1\nFDNAME=${name}\nFDPOLL=0`, [fd]);
  }

  forgetAll(): void {
    if (this.#kept.size === 0) return;
    for (const name of this.#kept) this.#send(`FDSTOREREMOVE=1\nFDNAME=${name}`);
    this.#kept.clear();
    try {
      this.#calls.barrier(this.#path);
    } catch (error) {
      this.#logger.debug(errorMessage(error));
    }
  }

  #send(message: string, fds: readonly number[] = []): void {
    try {
      this.#calls.send(this.#path, message, fds);
      this.#failed = false;
    } catch (error) {
      const reason = errorMessage(error);
      if (!this.#failed) this.#logger.warn(`descriptors cannot be kept for the next start: ${reason}`);
      this.#failed = true;
    }
  }
}

/** What the variables of sd_listen_fds(3) name, if they are meant for this process. */
function passedDescriptors(
  environment: Readonly<Record<string, string | undefined>>,
  pid: number,
): readonly StoredDescriptor[] {
  const count = Number(environment.LISTEN_FDS);
  if (Number(environment.LISTEN_PID) !== pid || !Number.isInteger(count) || count < 1 || count > MAX_LISTEN_FDS)
    return [];
  const names = (environment.LISTEN_FDNAMES ?? '').split(':');
  return Array.from({ length: count }, (_, index) => ({
    name: names[index] || 'unknown',
    fd: LISTEN_FDS_START + index,
  }));
}
