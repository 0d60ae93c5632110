import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Command } from 'commander';
import { parseCommandLine } from '../../../bench/command-line.js';
import { parseCompareOptions } from '../../../bench/compare-options.js';
import { parseOptions, type BenchOptions } from '../../../bench/options.js';
import { UsageError } from '../../../src/errors.js';

const ignore = (): void => undefined;

function parse(...args: string[]): BenchOptions {
  const options = parseOptions(args, ignore);
  assert.ok(options !== undefined);
  return options;
}

test('without options everything is measured in every mode, by every contender that needs no other program', () => {
  const options = parse();
  assert.deepEqual(options.contenders, ['flannelette', 'vxlan', 'host-gw', 'direct']);
  assert.deepEqual(
    options.plan.map(({ mode }) => mode),
    ['offloads', 'wire', 'wire-no-gro'],
  );
  assert.ok(options.plan.every(({ measures }) => measures.includes('tcp') && measures.includes('latency-loaded')));
  assert.equal(options.rounds, 5);
  assert.equal(options.from, 'pod');
  assert.equal(options.limitSeconds, Infinity);
});

test('--quick is short, and what is said besides counts', () => {
  const quick = parse('--quick');
  assert.ok(quick.rounds < 5 && quick.seconds === 1);
  assert.ok(quick.limitSeconds < 180);
  assert.deepEqual(parse('--quick', '--mode', 'wire').plan, [{ mode: 'wire', measures: ['tcp'] }]);
  assert.deepEqual(parse('--quick', '--measure', 'udp-64').plan, [{ mode: 'offloads', measures: ['udp-64'] }]);
  assert.equal(parse('--quick', '--rounds', '7').rounds, 7);
});

test('lists are taken in the order of the reports, each name once', () => {
  const { plan, contenders } = parse(
    '--measure',
    'udp-64,tcp,udp-64',
    '--mode=wire',
    '--contenders',
    'vxlan,flannelette',
  );
  assert.deepEqual(plan, [{ mode: 'wire', measures: ['tcp', 'udp-64'] }]);
  assert.deepEqual(contenders, ['flannelette', 'vxlan']);
});

test('peers come with a path or without, and rungs by the names of what they lack', () => {
  const { peers, without, ladder } = parse(
    ...['--peer', 'flanneld=/a=b', '--peer', 'nebula', '--ladder'],
    ...['--without', 'udp-gro,tun-uso', '--without', 'sendmmsg'],
  );
  assert.deepEqual(peers, [
    { name: 'flanneld', path: '/a=b' },
    { name: 'nebula', path: undefined },
  ]);
  assert.deepEqual(without, [['tun-uso', 'udp-gro'], ['sendmmsg']]);
  assert.equal(ladder, true);
});

const WRONG: readonly (readonly [args: string, complaint: RegExp])[] = [
  ['--rounds 0', /whole number from 1/],
  ['--rounds 2.5', /whole number/],
  ['--seconds -1', /whole number/],
  ['--streams 129', /from 1 to 128/],
  ['--from node', /expected one of pod, host/],
  ['--mode fast', /no mode "fast".*offloads, wire, wire-no-gro/],
  ['--measure tcp,speed', /no measure "speed"/],
  ['--contenders ipip', /no contender "ipip"/],
  ['--without gso', /no offload "gso"/],
  ['--traced 1000', /such as 1\/1000/],
  ['--peer openvpn', /expected flanneld, wireguard-go, nebula/],
  ['--peer flanneld=', /expected flanneld/],
  ['--peer nebula --peer nebula=/x', /nebula is given twice/],
  ['--from host --measure subnets-250', /needs --from pod/],
  ['--append', /--append needs --output/],
  ['--render', /--render needs --output/],
  ['--render --append --output x', /leave --append out/],
  ['--render --output x --rounds 3', /--render measures nothing: leave --rounds out/],
  ['--render --output x --measure tcp', /leave --measure out/],
  ['--render --output x --quick', /leave --quick out/],
  ['--render --output x --from pod', /leave --from out/],
  ['--fast', /unknown option/],
  ['now', /too many arguments/],
];

for (const [args, complaint] of WRONG) {
  test(`"${args}" is refused in one line`, () => {
    assert.throws(
      () => parse(...args.split(' ')),
      (error) => error instanceof UsageError && complaint.test(error.message) && !error.message.includes('\n'),
    );
  });
}

test('--render goes with the folder of a run, and with --publish', () => {
  const { render, publish, output } = parse('--render', '--publish', '--output', 'x');
  assert.deepEqual([render, publish, output], [true, true, 'x']);
});

test('a trace to measure the cost of is one of one packet in so many', () => {
  assert.equal(parse().tracedEvery, undefined);
  assert.equal(parse('--traced', '1/1000').tracedEvery, 1000);
});

test('help goes to whoever asked for it, and nothing is run', () => {
  let printed = '';
  assert.equal(
    parseOptions(['--help'], (text) => (printed += text)),
    undefined,
  );
  for (const option of ['--quick', '--ladder', '--peer', '--append']) assert.ok(printed.includes(option), option);
});

test('an option that npm took for its own is not left out silently', () => {
  const command = (): Command => new Command('npm run bench --').option('--quick').option('--rounds <count>');
  for (const [setting, option] of [
    ['npm_config_quick', '--quick'],
    ['npm_config_rounds', '--rounds'],
  ]) {
    assert.throws(
      () => parseCommandLine(command(), [], ignore, { [setting]: 'true' }),
      (error) => error instanceof UsageError && error.message.includes(`npm run bench -- ${option}`),
    );
  }
  assert.equal(parseCommandLine(command(), ['--quick'], ignore, { npm_config_loglevel: 'error' })?.opts().quick, true);
});

test('a comparison needs a revision or a trace, and rounds enough for an interval', () => {
  assert.equal(parseCompareOptions(['main', '--rounds', '4'], ignore)?.base, 'main');
  assert.deepEqual(parseCompareOptions(['main'], ignore)?.measures, ['tcp', 'udp-64']);
  assert.equal(parseCompareOptions(['--traced', '1/50'], ignore)?.tracedEvery, 50);
  assert.throws(() => parseCompareOptions([], ignore), UsageError);
  assert.throws(() => parseCompareOptions(['main', '--rounds', '1'], ignore), UsageError);
  assert.throws(() => parseCompareOptions(['main', 'other'], ignore), UsageError);
});
