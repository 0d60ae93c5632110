import { NetworkConfigError } from '../errors.js';
import { LeaseAdmin } from '../subnet/etcd/lease-admin.js';
import { storeSettings, type StoreOptions } from './store-options.js';

/** Longer than this nothing takes that one command asks of etcd; 65,536 leases with their expiry are some 20 s. */
const TIMEOUT_MS = 60_000;

/**
 * Does some work on etcd and closes the connection, whatever comes of it.
 * @throws UsageError for settings that cannot work; what `work` throws
 */
export async function withStore<T>(
  options: StoreOptions,
  env: Readonly<Record<string, string | undefined>>,
  work: (store: LeaseAdmin, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const store = new LeaseAdmin(storeSettings(options, env));
  try {
    return await work(store, AbortSignal.timeout(TIMEOUT_MS));
  } finally {
    store.close();
  }
}

/**
 * The network configuration as it stands in etcd.
 * @throws NetworkConfigError when there is none
 */
export async function storedConfigText(
  options: StoreOptions,
  env: Readonly<Record<string, string | undefined>>,
): Promise<string> {
  return withStore(options, env, async (store, signal) => {
    const text = await store.networkConfigText(signal);
    if (text !== undefined) return text;
    const { prefix } = storeSettings(options, env);
    throw new NetworkConfigError(
      `there is no network configuration in etcd (${prefix}/config): write one with 'flannelctl network set'`,
    );
  });
}
