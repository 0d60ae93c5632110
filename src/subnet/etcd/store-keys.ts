/** Where a network's keys stand in etcd. */
import { posix } from 'node:path';

export interface StoreKeys {
  readonly config: string;
  /** What every lease's key begins with. */
  readonly subnets: string;
  /** What every key of `flannelctl probe` begins with, of which flannel knows nothing. */
  readonly probes: string;
}

/** The keys of a network, joined as flannel joins them. */
export function storeKeys(prefix: string): StoreKeys {
  return {
    config: posix.join(prefix, 'config'),
    subnets: posix.join(prefix, 'subnets') + '/',
    probes: posix.join(prefix, 'probes') + '/',
  };
}

/** A prefix as its keys have it, so that `/net` and `/net/` are one network: without doubled slashes and one at the end. */
export function normalPrefix(prefix: string): string {
  return posix.dirname(storeKeys(prefix).config);
}

/** The end of the range of all keys that begin with `prefix`, which ends in a slash here. */
export function prefixEnd(prefix: string): Buffer {
  const end = Buffer.from(prefix);
  end[end.length - 1]++;
  return end;
}
