import type { SourceCheck } from '../backend/backend.js';
import type { OffloadName } from '../dataplane/offloads.js';
import { UsageError } from '../errors.js';
import { parseIpv4, type Ipv4Prefix } from '../packet/address.js';
import { normalPrefix } from '../subnet/etcd/store-keys.js';
import { FLAGS, describedFlags, type FlanneldFlagValues } from './flag-table.js';
import { addEnvironment, environmentName, nearestName, parseCommandLine } from './go-flags.js';

/** What the environment variables of flags begin with. */
export const ENVIRONMENT_PREFIX = 'FLANNELD';

/** What the command line and the environment ask for. */
export type Invocation =
  | { readonly action: 'help' }
  | { readonly action: 'version' }
  | { readonly action: 'run' | 'cleanup'; readonly options: FlanneldOptions; readonly warnings: readonly string[] };

/** The flags as the agent uses them. */
export interface FlanneldOptions {
  readonly etcd: {
    readonly endpoints: readonly string[];
    readonly prefix: string;
    readonly keyFile?: string;
    readonly certFile?: string;
    readonly caFile?: string;
    readonly username?: string;
    readonly password?: string;
    readonly passwordFile?: string;
  };
  readonly underlay: {
    /** `--iface`: names or addresses, in order. */
    readonly interfaces: readonly string[];
    /** `--iface-regex`, tried after the above. */
    readonly patterns: readonly string[];
    /** `--iface-can-reach`, tried last. */
    readonly canReach?: number;
    readonly publicIp?: number;
    readonly publicIpv6?: string;
  };
  readonly subnetFile: string;
  readonly renewMarginSeconds: number;
  readonly firewall: {
    readonly masquerade: boolean;
    readonly fullyRandom: boolean;
    readonly forwardRules: boolean;
    readonly resyncSeconds: number;
    readonly blackholeRoute: boolean;
  };
  readonly health: { readonly address: string; readonly port: number };
  readonly verbosity: number;
  readonly logFormat: 'text' | 'json';
  readonly controlSocket: string;
  /** Whose members may ask there, beside root and the daemon's own user. */
  readonly controlGroup?: string;
  /** The user to become; without one the daemon stays what it was started as. */
  readonly user?: string;
  /** Take the place of the agent that runs there. */
  readonly takeover: boolean;
  readonly mtuBytes?: number;
  readonly workers?: number;
  readonly disabledOffloads: readonly OffloadName[];
  readonly sourceCheck: SourceCheck;
  readonly trustedSources: readonly Ipv4Prefix[];
}

/**
 * Reads `flanneld`'s command line and environment.
 * @param args without the interpreter and the script
 * @throws UsageError with one line that names the flag or variable and what was expected
 */
export function readInvocation(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): Invocation {
  const commandLine = parseCommandLine(FLAGS, args);
  if (commandLine.help) return { action: 'help' };
  if (commandLine.values.version) return { action: 'version' };

  const parsed = addEnvironment(FLAGS, commandLine, ENVIRONMENT_PREFIX, environment, COMMAND_LINE_ONLY);
  refuseUnbuilt(parsed.values, parsed.origins);
  return {
    action: parsed.values.cleanup ? 'cleanup' : 'run',
    options: toOptions(parsed.values, parsed.origins),
    warnings: mistypedVariables(environment),
  };
}

/** Container images set FLANNELD_VERSION and the like for their own purposes; nothing should happen because of it. */
const COMMAND_LINE_ONLY = new Set(
  describedFlags()
    .filter(([, flag]) => flag.action === true)
    .map(([name]) => name),
);

function refuseUnbuilt(values: FlanneldFlagValues, origins: ReadonlyMap<string, string>): void {
  for (const [name, flag] of describedFlags()) {
    const origin = origins.get(name);
    if (flag.status !== 'unbuilt' || origin === undefined) continue;
    if (values[name as keyof typeof FLAGS] === flag.off) continue;
    throw new UsageError(`${origin}: Kubernetes support is not built yet; leases are kept in etcd (--etcd-endpoints)`);
  }
}

function toOptions(values: FlanneldFlagValues, origins: ReadonlyMap<keyof typeof FLAGS, string>): FlanneldOptions {
  const shown = (name: keyof typeof FLAGS): string => origins.get(name) ?? `--${name}`;
  for (const name of ['etcd-endpoints', 'etcd-prefix', 'subnet-file', 'control-socket'] as const) {
    if (values[name] === '') throw new UsageError(`${shown(name)}: expected ${FLAGS[name].expected}, not ""`);
  }
  for (const [needing, needed] of [
    ['etcd-certfile', 'etcd-keyfile'],
    ['etcd-keyfile', 'etcd-certfile'],
    ['etcd-password', 'etcd-username'],
    ['etcd-password-file', 'etcd-username'],
  ] as const) {
    if (values[needing] !== '' && values[needed] === '') {
      throw new UsageError(`${shown(needing)}: expected --${needed} beside it`);
    }
  }
  if (values['etcd-password'] !== '' && values['etcd-password-file'] !== '') {
    throw new UsageError(`${shown('etcd-password-file')}: give this or --etcd-password, not both`);
  }
  return {
    etcd: {
      endpoints: values['etcd-endpoints'].split(',').map((endpoint) => endpoint.trim()),
      prefix: normalPrefix(values['etcd-prefix']),
      keyFile: values['etcd-keyfile'] || undefined,
      certFile: values['etcd-certfile'] || undefined,
      caFile: values['etcd-cafile'] || undefined,
      username: values['etcd-username'] || undefined,
      password: values['etcd-password'] || undefined,
      passwordFile: values['etcd-password-file'] || undefined,
    },
    underlay: {
      interfaces: values.iface,
      patterns: values['iface-regex'],
      canReach: parseIpv4(values['iface-can-reach']),
      publicIp: parseIpv4(values['public-ip']),
      publicIpv6: values['public-ipv6'] || undefined,
    },
    subnetFile: values['subnet-file'],
    renewMarginSeconds: values['subnet-lease-renew-margin'] * 60,
    firewall: {
      masquerade: values['ip-masq'],
      fullyRandom: !values['ip-masq-fully-random-disable'],
      forwardRules: values['iptables-forward-rules'],
      resyncSeconds: values['iptables-resync'],
      blackholeRoute: values['ip-blackhole-route'],
    },
    health: { address: values['healthz-ip'] || FLAGS['healthz-ip'].default, port: values['healthz-port'] },
    verbosity: values.v,
    logFormat: values['log-format'],
    controlSocket: values['control-socket'],
    controlGroup: values['control-group'] || undefined,
    user: values.user || undefined,
    takeover: values.takeover,
    mtuBytes: values.mtu === 0 ? undefined : values.mtu,
    workers: values.workers === 0 ? undefined : values.workers,
    disabledOffloads: values['disable-offload'],
    sourceCheck: values['source-check'],
    trustedSources: values['trusted-source'],
  };
}

/** A variable that nearly is a flag's would otherwise be ignored without a word. */
function mistypedVariables(environment: Readonly<Record<string, string | undefined>>): string[] {
  const known = describedFlags().map(([name]) => environmentName(ENVIRONMENT_PREFIX, name));
  const warnings: string[] = [];
  for (const variable of Object.keys(environment)) {
    if (!variable.startsWith(`${ENVIRONMENT_PREFIX}_`) || known.includes(variable)) continue;
    const near = nearestName(known, variable);
    if (near !== undefined) warnings.push(`environment variable ${variable} is no flag's: did you mean ${near}?`);
  }
  return warnings;
}
