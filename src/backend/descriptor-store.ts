/**
 * Where a backend's descriptors outlive the process: what a queue or a socket holds is still there for the next one that
 * has it. The service manager keeps such a store.
 */
export interface DescriptorStore {
  /**
   * What an earlier process left. The first call gives it out, and it is the caller's from then on, to use or to close;
   * later ones give nothing.
   */
  take(): readonly StoredDescriptor[];

  /** Keeps a copy under a name, in place of what was there. */
  keep(name: string, fd: number): void;

  /** Drops everything that is kept. When it returns, nothing is open because of it any more, as far as can be told. */
  forgetAll(): void;
}

/** A descriptor and the name that it was kept under. */
export interface StoredDescriptor {
  readonly name: string;
  readonly fd: number;
}

/** For who has nobody to keep them. */
export const noDescriptorStore: DescriptorStore = { take: () => [], keep() {}, forgetAll() {} };
