/** The command line of `npm run bench`. */
import { Command, InvalidArgumentError } from 'commander';
import { OFFLOADS } from '../src/dataplane/offloads.js';
import { UsageError } from '../src/errors.js';
import { fraction } from '../src/flannelctl/packet-options.js';
import { count, list, oneOf, parseCommandLine } from './command-line.js';
import { PEERS, type PeerChoice } from './contenders/peers.js';
import { MEASURES, OPTIONAL_MEASURES } from './measures/index.js';
import { VETH_MODES } from './veth-mode.js';

/** Contenders that need nothing but this checkout and the kernel, in the order in which they take turns. */
export const STANDARD_CONTENDERS = ['flannelette', 'vxlan', 'host-gw', 'direct'] as const;
export type StandardContender = (typeof STANDARD_CONTENDERS)[number];

/** What is measured in a mode. */
export interface ModePlan {
  readonly mode: string;
  readonly measures: readonly string[];
}

export interface BenchOptions {
  readonly contenders: readonly StandardContender[];
  readonly peers: readonly PeerChoice[];
  readonly ladder: boolean;
  /** Each a contender: this project's agent without these offloads. */
  readonly without: readonly (readonly string[])[];
  /** A contender more: this project's agent while one packet in so many is traced. */
  readonly tracedEvery?: number;
  readonly plan: readonly ModePlan[];
  readonly rounds: number;
  readonly seconds: number;
  readonly streams: number;
  readonly from: 'pod' | 'host';
  /** After so many seconds no further measurement is begun. */
  readonly limitSeconds: number;
  /** Folder for results; `undefined`: one named after the time. */
  readonly output?: string;
  /** Whether the rounds are added to those that `output` has. */
  readonly append: boolean;
  /** Whether nothing is measured, and what `output` has is reported once more. */
  readonly render: boolean;
  /** Whether docs/performance.md is to show the results. */
  readonly publish: boolean;
}

/** What --quick measures where nothing else is said. */
const QUICK: readonly ModePlan[] = [
  { mode: 'offloads', measures: ['tcp', 'udp-64', 'latency-idle'] },
  { mode: 'wire', measures: ['tcp'] },
  { mode: 'wire-no-gro', measures: ['tcp'] },
];
/** The last measurement, the report and the clearing away take the rest of the three minutes. */
const QUICK_LIMIT_SECONDS = 150;
/** What goes with --render. */
const WITH_RENDER: readonly string[] = ['render', 'output', 'publish'] satisfies (keyof Parsed)[];

const modeNames = VETH_MODES.map(({ name }) => name);
const measureNames = [...MEASURES, ...OPTIONAL_MEASURES].map(({ name }) => name);

/** What commander makes of the command line; what was not given is missing. */
interface Parsed {
  readonly quick?: boolean;
  readonly rounds?: number;
  readonly seconds?: number;
  readonly streams: number;
  readonly from: 'pod' | 'host';
  readonly contenders?: readonly StandardContender[];
  readonly peer?: readonly PeerChoice[];
  readonly ladder?: boolean;
  readonly without?: readonly (readonly string[])[];
  readonly traced?: number;
  readonly measure?: readonly string[];
  readonly mode?: readonly string[];
  readonly output?: string;
  readonly append?: boolean;
  readonly render?: boolean;
  readonly publish?: boolean;
}

function buildCommand(): Command {
  return new Command('npm run bench --')
    .usage('[OPTIONS]')
    .description(
      'Measures the overlay beside kernel VXLAN, plain routing and the bare cable, in network namespaces of its own, ' +
        'and beside any other tunnel that you have. Contenders take turns within a round, since machines drift: ' +
        'ratios within a round are what counts.',
    )
    .helpOption('-h, --help', 'explain and exit')
    .option('--quick', 'a few short rounds of the most telling measures; ends within three minutes')
    .option('--rounds <count>', 'how often each contender has its turn (default: 5; 3 with --quick)', count(1, 1000))
    .option('--seconds <count>', 'length of a measurement (default: 3; 1 with --quick)', count(1, 3600))
    .option('--streams <count>', 'TCP streams of tcp-streams and tcp-both', count(1, 128), 8)
    .option(
      '--from <pod|host>',
      'traffic from pods behind bridges, or from the nodes themselves',
      oneOf(['pod', 'host']),
      'pod',
    )
    .option(
      '--contenders <list>',
      `only some of these: ${STANDARD_CONTENDERS.join(', ')}`,
      list('contender', STANDARD_CONTENDERS),
    )
    .option(
      '--peer <name[=path]>',
      `another tunnel that you have: ${Object.keys(PEERS).join(', ')}; without a path it is looked for in PATH (repeatable)`,
      peer,
    )
    .option('--ladder', 'our agent also as it is on older and older kernels')
    .option(
      '--without <list>',
      `our agent also without some offloads, of ${OFFLOADS.map(({ name }) => name).join(', ')} (repeatable)`,
      without,
    )
    .option('--traced <1/n>', 'our agents also while "flannelctl trace --sample 1/N" runs on both nodes', fraction)
    .option(
      '--measure <list>',
      `what to measure, of ${measureNames.join(', ')} (the last two only when asked for)`,
      list('measure', measureNames),
    )
    .option('--mode <list>', `what the cable does, of ${modeNames.join(', ')}`, list('mode', modeNames))
    .option('--output <folder>', 'where results go (default: bench/results/ and the time)')
    .option('--append', 'add the rounds to the results that the folder of --output has')
    .option('--render', 'measure nothing: report once more what the folder of --output has')
    .option('--publish', 'write the results and their plots into docs/performance.md')
    .addHelpText('after', EXAMPLES)
    .configureHelp({ helpWidth: 110 });
}

const EXAMPLES = `
Examples:
  npm run bench -- --quick
  npm run bench -- --peer flanneld=/usr/local/bin/flanneld --peer wireguard-go --measure tcp,udp-64 --rounds 9
  npm run bench -- --traced 1/1000 --contenders flannelette --mode offloads --measure tcp,udp-64
  npm run bench -- --ladder --contenders flannelette,vxlan --mode offloads --measure tcp
  npm run bench -- --output results --rounds 1 && npm run bench -- --output results --rounds 4 --append

Exit status: 0 done, 1 something could not be measured, 2 the command line is wrong.`;

/**
 * Reads the command line (without `node` and the script's name).
 * @param print - takes the help's text
 * @returns `undefined` when help was asked for and printed
 * @throws UsageError
 */
export function parseOptions(args: readonly string[], print: (text: string) => void): BenchOptions | undefined {
  const command = parseCommandLine(buildCommand(), args, print);
  if (command === undefined) return undefined;
  refuseBesideRender(command);
  return complete(command.opts<Parsed>());
}

/** What is measured, and how, was settled when the run was made. @throws UsageError */
function refuseBesideRender(command: Command): void {
  if (command.opts<Parsed>().render !== true) return;
  const idle = command.options.find((option) => {
    const name = option.attributeName();
    return command.getOptionValueSource(name) === 'cli' && !WITH_RENDER.includes(name);
  });
  if (idle !== undefined) throw new UsageError(`--render measures nothing: leave ${idle.long} out`);
}

function complete(parsed: Parsed): BenchOptions {
  const { quick = false, peer: peers = [], output, append = false, render = false } = parsed;
  if (append && output === undefined) throw new UsageError('--append needs --output, the folder to add to');
  if (render && output === undefined) throw new UsageError('--render needs --output, the folder of a run');
  const withoutPods = parsed.from === 'host' && OPTIONAL_MEASURES.find(({ name }) => parsed.measure?.includes(name));
  if (withoutPods) throw new UsageError(`--measure ${withoutPods.name} needs --from pod: its other end is one`);
  const names = peers.map(({ name }) => name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new UsageError(`--peer ${twice} is given twice`);
  return {
    contenders: parsed.contenders ?? STANDARD_CONTENDERS,
    peers,
    ladder: parsed.ladder ?? false,
    without: parsed.without ?? [],
    tracedEvery: parsed.traced,
    plan: planOf(parsed),
    rounds: parsed.rounds ?? (quick ? 3 : 5),
    seconds: parsed.seconds ?? (quick ? 1 : 3),
    streams: parsed.streams,
    from: parsed.from,
    limitSeconds: quick ? QUICK_LIMIT_SECONDS : Infinity,
    output,
    append,
    render,
    publish: parsed.publish ?? false,
  };
}

function planOf({ quick = false, measure, mode }: Parsed): ModePlan[] {
  if (quick && measure === undefined) return QUICK.filter((plan) => mode === undefined || mode.includes(plan.mode));
  const measures = measure ?? MEASURES.map(({ name }) => name);
  return (mode ?? (quick ? [modeNames[0]] : modeNames)).map((name) => ({ mode: name, measures }));
}

function peer(text: string, before: readonly PeerChoice[] = []): readonly PeerChoice[] {
  const [, name, path] = /^([^=]*)(?:=(.+))?$/.exec(text) ?? [];
  if (name === undefined || !(name in PEERS)) {
    throw new InvalidArgumentError(`expected ${Object.keys(PEERS).join(', ')}, or one of these, "=" and its path.`);
  }
  return [...before, { name: name as PeerChoice['name'], path }];
}

function without(text: string, before: readonly (readonly string[])[] = []): readonly (readonly string[])[] {
  return [
    ...before,
    list(
      'offload',
      OFFLOADS.map(({ name }) => name),
    )(text),
  ];
}
