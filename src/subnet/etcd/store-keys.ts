/** Where a network's keys stand in etcd. */
import { posix } from 'node:path';

/** `PREFIX/config` and the beginning of every lease's key, joined as flannel joins them. */
export function storeKeys(prefix: string): { readonly config: string; readonly subnets: string } {
  return { config: posix.join(prefix, 'config'), subnets: posix.join(prefix, 'subnets') + '/' };
}

/** A prefix as its keys have it, so that `/net` and `/net/` are one network: without doubled slashes and one at the end. */
export function normalPrefix(prefix: string): string {
  return posix.dirname(storeKeys(prefix).config);
}
