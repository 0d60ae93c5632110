import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { FlannelError, fileErrorMessage } from '../../errors.js';
import { formatPrefix, parsePrefix } from '../../packet/address.js';
import { type CommandContext, printJson, printLines } from '../context.js';
import { dockerOptions, parseAssignments } from '../docker-options.js';
import { addExamples, addJsonOption, type JsonOption } from '../options.js';

interface DockerOptsOptions extends JsonOption {
  readonly flannelEnv: string;
  readonly dockerEnv: string;
  readonly individual?: true;
  readonly combined?: true;
  readonly ipMasq: boolean;
  readonly combinedKey: string;
}

const DEFAULT_SUBNET_FILE = '/run/flannel/subnet.env';

/** `flannelctl docker-opts`: subnet.env as options for Docker's daemon. */
export function addDockerOptsCommand(program: Command, context: CommandContext): void {
  const command = program
    .command('docker-opts')
    .summary("write this node's subnet as options for Docker's daemon")
    .description(
      "Turns flanneld's subnet.env into a file of Docker daemon options (--bip, --mtu, --ip-masq) that a systemd unit " +
        "reads with EnvironmentFile=. It takes the options of flannel's mk-docker-opts.sh and writes the same file. " +
        'Without -i and -c it writes both forms. Options that the environment already holds in DOCKER_OPTS or ' +
        'DOCKER_OPT_… are kept. Fails when a route by another gateway already leads to the subnet.',
    )
    // flanneld's own variable moves the default, as with --socket.
    .option(
      '-f, --flannel-env <file>',
      "flanneld's subnet.env",
      context.env.FLANNELD_SUBNET_FILE || DEFAULT_SUBNET_FILE,
    )
    .option('-d, --docker-env <file>', "the file to write; '-' is standard output", '/run/docker_opts.env')
    .option('-i, --individual', 'write each option as its own variable: DOCKER_OPT_MTU="--mtu=1472"')
    .option('-c, --combined', 'write all options into one variable: DOCKER_OPTS="…"')
    .option('-k, --combined-key <name>', 'name of that one variable', 'DOCKER_OPTS')
    .option('-m, --no-ip-masq', 'leave --ip-masq out (for a Docker that does not know it)');
  addJsonOption(command);
  addExamples(command, [
    ['flannelctl docker-opts', 'both forms into /run/docker_opts.env'],
    ['flannelctl docker-opts -c -k DOCKER_NETWORK_OPTIONS -d /run/flannel/docker', "one variable, under a unit's name"],
    ['flannelctl docker-opts -i -d -', 'look at it first'],
  ]);
  command.action(async (options: DockerOptsOptions) => {
    const environment = { ...context.env, ...(await readSubnetFile(options.flannelEnv)) };
    if (!environment.FLANNEL_SUBNET) {
      const why = `no FLANNEL_SUBNET in ${options.flannelEnv} or the environment: flanneld has no subnet yet; run this again when it is ready`;
      printLines(context.stderr, [`flannelctl: warning: ${why}`]);
    }
    const result = dockerOptions(environment, {
      individual: options.individual === true,
      combined: options.combined === true,
      combinedKey: options.combinedKey,
      ipMasq: options.ipMasq,
    });
    const onStdout = options.dockerEnv === '-' || options.dockerEnv === '/dev/stdout';
    // Standard output is written as it is: opening it anew would cut off what a redirected one already holds.
    if (!onStdout) await writeDockerFile(options.dockerEnv, result.text);
    else if (!options.json) context.stdout.write(result.text);
    if (options.json) {
      const { variables, combined } = result;
      printJson(context, { file: options.dockerEnv, variables, [options.combinedKey]: combined });
    }
    await refuseForeignRoute(environment.FLANNEL_SUBNET);
  });
}

async function writeDockerFile(path: string, text: string): Promise<void> {
  try {
    await writeFile(path, text);
  } catch (error) {
    throw new FlannelError('HOST', `cannot write ${path}: ${fileErrorMessage(error)}`, { cause: error });
  }
}

/** The variables of subnet.env; none when there is no such file yet, as a script that sources it would find. */
async function readSubnetFile(path: string): Promise<Record<string, string>> {
  try {
    return parseAssignments(await readFile(path, 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw new FlannelError('HOST', `cannot read ${path}: ${fileErrorMessage(error)}`, { cause: error });
  }
}

/**
 * Docker would refuse to start, or steal the traffic, where the node already reaches its subnet by a gateway.
 * @throws FlannelError `HOST` when such a route stands
 */
async function refuseForeignRoute(subnet: string | undefined): Promise<void> {
  const prefix = subnet === undefined ? undefined : parsePrefix(subnet);
  if (prefix === undefined) return;
  const destination = formatPrefix(prefix);
  // A machine without `ip` cannot be asked, and flanneld cannot run there either.
  const routes = await new Promise<string>((resolve) => {
    execFile('ip', ['-4', 'route', 'show', 'exact', destination], (error, stdout) => resolve(error ? '' : stdout));
  });
  const foreign = routes.split('\n').find((line) => /\svia\s/.test(line));
  if (foreign !== undefined) {
    throw new FlannelError(
      'HOST',
      `a route by a gateway already leads to ${destination} (${foreign.trim()}): remove it before Docker starts`,
    );
  }
}
