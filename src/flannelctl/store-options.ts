import { type Command, Option } from 'commander';
import type { EtcdOptions } from '../subnet/etcd/options.js';
import { normalPrefix } from '../subnet/etcd/store-keys.js';

/** What {@link addStoreOptions} fills. */
export type StoreOptions = Readonly<Partial<Record<StoreFlagKey, string>>>;

type StoreFlagKey =
  | 'etcdEndpoints'
  | 'etcdPrefix'
  | 'etcdCafile'
  | 'etcdCertfile'
  | 'etcdKeyfile'
  | 'etcdUsername'
  | 'etcdPassword'
  | 'etcdPasswordFile';

/** flanneld's etcd flags; a test holds names and defaults against its own table. */
export const STORE_FLAGS: readonly {
  readonly name: string;
  readonly key: StoreFlagKey;
  readonly value: string;
  readonly description: string;
  readonly default?: string;
}[] = [
  {
    name: 'etcd-endpoints',
    key: 'etcdEndpoints',
    value: 'urls',
    description: 'etcd servers, separated by commas',
    default: 'http://127.0.0.1:4001,http://127.0.0.1:2379',
  },
  {
    name: 'etcd-prefix',
    key: 'etcdPrefix',
    value: 'prefix',
    description: "where the network's keys begin",
    default: '/coreos.com/network',
  },
  { name: 'etcd-cafile', key: 'etcdCafile', value: 'file', description: "authority that signed etcd's certificate" },
  { name: 'etcd-certfile', key: 'etcdCertfile', value: 'file', description: 'client certificate' },
  { name: 'etcd-keyfile', key: 'etcdKeyfile', value: 'file', description: "the client certificate's private key" },
  { name: 'etcd-username', key: 'etcdUsername', value: 'name', description: 'user to log in as' },
  {
    name: 'etcd-password',
    key: 'etcdPassword',
    value: 'password',
    description: "the user's password (better given in the environment or a file)",
  },
  {
    name: 'etcd-password-file',
    key: 'etcdPasswordFile',
    value: 'file',
    description: "file that holds the user's password",
  },
];

/** The environment variable that stands for a flag, the same one flanneld reads. */
export function storeVariable(flag: string): string {
  return `FLANNELD_${flag.toUpperCase().replaceAll('-', '_')}`;
}

/** flanneld's etcd flags, for every command that works on the store itself. */
export function addStoreOptions(command: Command): Command {
  for (const { name, value, description, default: preset } of STORE_FLAGS) {
    const note = preset === undefined ? '' : ` (default: "${preset}")`;
    command.addOption(new Option(`--${name} <${value}>`, description + note).helpGroup('etcd, as for flanneld:'));
  }
  return command.addHelpText(
    'after',
    '\nEach etcd option may be given as an environment variable, as for flanneld: FLANNELD_ETCD_ENDPOINTS and so on.',
  );
}

/** The settings from the command line, else the environment, else flanneld's defaults. An empty value counts as unset. */
export function storeSettings(options: StoreOptions, env: Readonly<Record<string, string | undefined>>): EtcdOptions {
  const values: Partial<Record<StoreFlagKey, string>> = {};
  for (const { name, key, default: preset } of STORE_FLAGS) {
    values[key] = options[key] || env[storeVariable(name)] || preset;
  }
  return {
    endpoints: (values.etcdEndpoints ?? '').split(',').map((endpoint) => endpoint.trim()),
    prefix: normalPrefix(values.etcdPrefix ?? ''),
    keyFile: values.etcdKeyfile,
    certFile: values.etcdCertfile,
    caFile: values.etcdCafile,
    username: values.etcdUsername,
    password: values.etcdPassword,
    passwordFile: values.etcdPasswordFile,
  };
}
