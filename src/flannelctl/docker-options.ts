import { FlannelError, UsageError } from '../errors.js';

/** Variables by name, as a shell that had sourced subnet.env would hold them. */
export type Variables = Readonly<Record<string, string | undefined>>;

/** What the caller wants written; both `individual` and `combined` when it says neither. */
export interface DockerOptionsRequest {
  /** A variable for each option (`DOCKER_OPT_MTU="--mtu=1472"`). */
  readonly individual: boolean;
  /** One variable with all options. */
  readonly combined: boolean;
  /** Its name, `DOCKER_OPTS` by default. */
  readonly combinedKey: string;
  /** Whether Docker is told about masquerading at all. */
  readonly ipMasq: boolean;
}

/** The options for Docker's daemon, and the file that carries them. */
export interface DockerOptions {
  /** `DOCKER_OPT_BIP` and its like, with their values. */
  readonly variables: Readonly<Record<string, string>>;
  /** The value of the combined variable; flannel's format has a space before each option. */
  readonly combined: string;
  /** The file's content. */
  readonly text: string;
}

/**
 * Docker's options for a node's subnet, from the variables of subnet.env and the caller's environment, in the format of
 * the script that flannel ships for this: options of the caller's own (`DOCKER_OPT_…`, or the combined variable) are
 * kept, the variables stand in the order of their names. Docker masquerades when flanneld does not, and the other way
 * round.
 * @throws UsageError when the combined key is no name of a variable; FlannelError `HOST` when FLANNEL_IPMASQ is neither
 *   true nor false
 */
export function dockerOptions(environment: Variables, request: DockerOptionsRequest): DockerOptions {
  const { combinedKey } = request;
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(combinedKey)) {
    throw new UsageError(`--combined-key '${combinedKey}' is not the name of a shell variable`);
  }
  const variables: Record<string, string> = {};
  for (const [name, value] of Object.entries(environment)) {
    if (name.includes('DOCKER_OPT_') && value !== undefined) variables[name] = value;
  }
  const { FLANNEL_SUBNET: subnet, FLANNEL_MTU: mtu, FLANNEL_IPMASQ: masq } = environment;
  if (subnet) variables.DOCKER_OPT_BIP = `--bip=${subnet}`;
  if (mtu) variables.DOCKER_OPT_MTU = `--mtu=${mtu}`;
  if (masq && request.ipMasq) {
    if (masq !== 'true' && masq !== 'false') {
      throw new FlannelError(
        'HOST',
        `FLANNEL_IPMASQ is '${masq}', expected true or false: did flanneld write this file?`,
      );
    }
    variables.DOCKER_OPT_IPMASQ = `--ip-masq=${masq === 'true' ? 'false' : 'true'}`;
  }
  const names = Object.keys(variables).sort();
  const own = environment[combinedKey];
  const combined = [own ? `${own} ` : '', ...names.map((name) => variables[name])].join(' ');
  const both = !request.individual && !request.combined;
  const lines: string[] = [];
  if (request.individual || both) lines.push(...names.map((name) => `${name}="${variables[name]}"\n`));
  if (request.combined || both) lines.push(`${combinedKey}="${combined}"\n`);
  return { variables, combined, text: lines.join('') };
}

/** Reads `NAME=value` lines as a shell would that sources them; values may be quoted, nothing is expanded. */
export function parseAssignments(text: string): Record<string, string> {
  const variables: Record<string, string> = {};
  for (const line of text.split('\n')) {
    const match = /^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(?:"([^"]*)"|'([^']*)'|([^\s;#]*))/.exec(line);
    if (match !== null) variables[match[1]] = match[2] ?? match[3] ?? match[4];
  }
  return variables;
}
