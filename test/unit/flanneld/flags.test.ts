import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import fc from 'fast-check';

import { UsageError } from '../../../src/errors.js';
import type { FlanneldFlag } from '../../../src/flanneld/flag-kinds.js';
import { FLAGS, describedFlags } from '../../../src/flanneld/flag-table.js';
import { readInvocation, type FlanneldOptions } from '../../../src/flanneld/flags.js';
import { environmentName, parseGoInteger } from '../../../src/flanneld/go-flags.js';
import { helpText } from '../../../src/flanneld/help.js';
import { parseIpv4 } from '../../../src/packet/address.js';

function options(args: string[], environment: Record<string, string> = {}): FlanneldOptions {
  const invocation = readInvocation(args, environment);
  assert.equal(invocation.action, 'run');
  return (invocation as { options: FlanneldOptions }).options;
}

function usageError(args: string[], environment: Record<string, string> = {}): string {
  try {
    readInvocation(args, environment);
  } catch (error) {
    assert.ok(error instanceof UsageError, `expected a UsageError, not ${String(error)}`);
    assert.ok(!error.message.includes('\n'), 'one line');
    return error.message;
  }
  assert.fail(`accepted: ${args.join(' ')} ${JSON.stringify(environment)}`);
}

describe('the flag table', () => {
  // What flannel 0.26.7 has, with its defaults, and the two flags of later releases.
  const flannels: Record<string, unknown> = {
    'etcd-endpoints': 'http://127.0.0.1:4001,http://127.0.0.1:2379',
    'etcd-prefix': '/coreos.com/network',
    'etcd-keyfile': '',
    'etcd-certfile': '',
    'etcd-cafile': '',
    'etcd-username': '',
    'etcd-password': '',
    iface: [],
    'iface-regex': [],
    'iface-can-reach': '',
    'public-ip': '',
    'public-ipv6': '',
    'subnet-file': '/run/flannel/subnet.env',
    'subnet-lease-renew-margin': 60,
    'ip-masq': false,
    'ip-masq-fully-random-disable': false,
    'iptables-resync': 5,
    'iptables-forward-rules': true,
    'ip-blackhole-route': false,
    'healthz-ip': '0.0.0.0',
    'healthz-port': 0,
    'kube-subnet-mgr': false,
    'kube-api-url': '',
    'kubeconfig-file': '',
    'kube-annotation-prefix': 'flannel.alpha.coreos.com',
    'net-config-path': '/etc/kube-flannel/net-conf.json',
    'set-node-network-unavailable': true,
    v: 0,
    version: false,
  };
  for (const [name, value] of Object.entries(flannels)) {
    test(`has flannel's --${name} with its default`, () => {
      assert.ok(Object.hasOwn(FLAGS, name));
      assert.deepEqual(FLAGS[name as keyof typeof FLAGS].default, value);
    });
  }
  for (const name of [
    'control-socket',
    'control-group',
    'user',
    'etcd-password-file',
    'mtu',
    'workers',
    'log-format',
    'source-check',
    'trusted-source',
    'takeover',
    'cleanup',
    'vmodule',
    'log_backtrace_at',
    'logtostderr',
  ]) {
    test(`has --${name}`, () => assert.ok(Object.hasOwn(FLAGS, name)));
  }

  test('takes every default as a value of its own flag', () => {
    for (const [name, flag] of describedFlags()) {
      if (Array.isArray(flag.default)) continue;
      assert.equal(flag.parse(String(flag.default)), flag.default, name);
    }
  });

  test('is in --help entirely, on lines a terminal holds', () => {
    const help = helpText('1.2.3', 80);
    for (const [name] of describedFlags()) assert.match(help, new RegExp(`^ +--${name}[=:\\s]`, 'm'), name);
    for (const line of help.split('\n')) assert.ok(line.length <= 90, line);
  });
});

describe('the command line', () => {
  const prefix = '/a=b';
  for (const args of [
    ['--etcd-prefix', prefix],
    ['-etcd-prefix', prefix],
    [`--etcd-prefix=${prefix}`],
    [`-etcd-prefix=${prefix}`],
    ['--etcd-prefix=/other', `-etcd-prefix=${prefix}`],
    [`-etcd-prefix=${prefix}`, '--'],
  ]) {
    test(`takes ${args.join(' ')}`, () => assert.equal(options(args).etcd.prefix, prefix));
  }

  test('takes a prefix with a slash too many for the network it names', () => {
    for (const spelling of ['/net/x', '/net/x/', '/net//x', '/net/y/../x']) {
      assert.equal(options([`--etcd-prefix=${spelling}`]).etcd.prefix, '/net/x', spelling);
    }
    assert.equal(options(['--etcd-prefix=/']).etcd.prefix, '/');
    assert.equal(options(['--etcd-prefix=net']).etcd.prefix, 'net');
  });

  test('takes a value that begins with a dash', () => {
    assert.equal(options(['--etcd-prefix', '--iface']).etcd.prefix, '--iface');
  });

  for (const [word, value] of [
    ...['1', 't', 'T', 'true', 'TRUE', 'True'].map((text) => [text, true] as const),
    ...['0', 'f', 'F', 'false', 'FALSE', 'False'].map((text) => [text, false] as const),
  ]) {
    test(`takes --ip-masq=${word} as ${value}`, () => {
      assert.equal(options([`--ip-masq=${word}`]).firewall.masquerade, value);
      assert.equal(options([], { FLANNELD_IP_MASQ: word }).firewall.masquerade, value);
    });
  }

  test('takes a bare boolean as true, and never the next argument as its value', () => {
    assert.equal(options(['-ip-masq', '--mtu=1400']).firewall.masquerade, true);
    assert.match(usageError(['--ip-masq', 'false']), /"false".*--ip-masq=false/);
  });

  test('collects repeated interfaces, patterns and sources in order', () => {
    const { underlay, trustedSources } = options([
      '--iface=eth1',
      '--iface-regex=^10\\.',
      '-iface',
      'eth0',
      '--iface=',
      '--trusted-source=192.0.2.0/24',
      '--trusted-source',
      '198.51.100.7',
    ]);
    assert.deepEqual(underlay.interfaces, ['eth1', 'eth0']);
    assert.deepEqual(underlay.patterns, ['^10\\.']);
    assert.deepEqual(trustedSources, [
      { address: parseIpv4('192.0.2.0'), length: 24 },
      { address: parseIpv4('198.51.100.7'), length: 32 },
    ]);
  });

  test('turns units into those the code counts in', () => {
    assert.equal(options(['--subnet-lease-renew-margin=2']).renewMarginSeconds, 120);
  });

  test('takes numbers as Go writes them', () => {
    assert.equal(options(['--healthz-port=0x1f90']).health.port, 8080);
    assert.equal(parseGoInteger('017'), 15);
    assert.equal(parseGoInteger('08'), undefined);
    assert.equal(parseGoInteger('0'), 0);
    assert.equal(parseGoInteger('+5'), 5);
    assert.equal(parseGoInteger('-5'), -5);
    for (const bad of ['', ' 5', '5 ', '5s', '1e3', '0x', '--5', '9007199254740993']) {
      assert.equal(parseGoInteger(bad), undefined, bad);
    }
  });

  test('takes any integer that Go would print', () => {
    fc.assert(fc.property(fc.maxSafeInteger(), (number) => parseGoInteger(String(number)) === number));
  });

  test('leaves 0 for --mtu and --workers to be chosen', () => {
    const chosen = options(['--mtu=0', '--workers=0']);
    assert.equal(chosen.mtuBytes, undefined);
    assert.equal(chosen.workers, undefined);
  });

  for (const flag of ['-h', '--h', '-help', '--help']) {
    test(`shows help for ${flag}, whatever follows`, () => {
      assert.deepEqual(readInvocation([flag, '--nonsense'], {}), { action: 'help' });
    });
  }

  test('knows --version and --cleanup as actions', () => {
    assert.equal(readInvocation(['--version'], {}).action, 'version');
    assert.equal(readInvocation(['-cleanup'], {}).action, 'cleanup');
    assert.equal(readInvocation(['--version=false'], {}).action, 'run');
  });
});

describe('the etcd endpoints', () => {
  for (const given of [
    'http://a:1',
    'https://[fc00::1]:2379',
    'a:2379',
    'unix:///run/etcd.sock',
    'http://a:1, http://b:2',
  ]) {
    test(`may be ${given}`, () => {
      assert.deepEqual(options([`--etcd-endpoints=${given}`]).etcd.endpoints, given.split(', '));
    });
  }
});

describe('the environment', () => {
  test('names every flag in capitals with underscores', () => {
    assert.equal(environmentName('FLANNELD', 'subnet-lease-renew-margin'), 'FLANNELD_SUBNET_LEASE_RENEW_MARGIN');
  });

  test('sets what the command line does not', () => {
    const environment = { FLANNELD_ETCD_PREFIX: '/env', FLANNELD_MTU: '1400', FLANNELD_LOG_FORMAT: 'json' };
    const mixed = options(['--etcd-prefix=/line'], environment);
    assert.equal(mixed.etcd.prefix, '/line');
    assert.equal(mixed.mtuBytes, 1400);
    assert.equal(mixed.logFormat, 'json');
  });

  test('counts an empty variable as unset', () => {
    assert.equal(options([], { FLANNELD_IP_MASQ: '' }).firewall.masquerade, false);
    assert.equal(options([], { FLANNELD_ETCD_PREFIX: '' }).etcd.prefix, '/coreos.com/network');
  });

  test('holds several interfaces or sources, separated by commas, but one pattern', () => {
    const several = options([], {
      FLANNELD_IFACE: 'eth1,eth0',
      FLANNELD_IFACE_REGEX: 'e{1,2}th',
      FLANNELD_TRUSTED_SOURCE: '192.0.2.1,192.0.2.2',
    });
    assert.deepEqual(several.underlay.interfaces, ['eth1', 'eth0']);
    assert.deepEqual(several.underlay.patterns, ['e{1,2}th']);
    assert.equal(several.trustedSources.length, 2);
  });

  test('cannot ask for an action', () => {
    const invocation = readInvocation([], { FLANNELD_VERSION: 'v0.26.7', FLANNELD_CLEANUP: 'true' });
    assert.equal(invocation.action, 'run');
  });

  test('is named in the error for a bad value', () => {
    assert.match(usageError([], { FLANNELD_MTU: 'big' }), /^FLANNELD_MTU: expected .*bytes.*"big"$/);
    assert.match(usageError([], { FLANNELD_KUBE_SUBNET_MGR: 'true' }), /^FLANNELD_KUBE_SUBNET_MGR: .*not built yet/);
  });

  test('is looked at for mistyped variables', () => {
    const invocation = readInvocation([], { FLANNELD_ETCD_ENDPOINT: 'x', FLANNELD_SERVICE_HOST: 'y', HOME: '/' });
    assert.ok(invocation.action === 'run');
    assert.equal(invocation.warnings.length, 1);
    assert.match(invocation.warnings[0], /FLANNELD_ETCD_ENDPOINT .*FLANNELD_ETCD_ENDPOINTS/);
  });
});

describe('a wrong command line', () => {
  const cases: [string[], RegExp][] = [
    [['--etcd-endpoint=x'], /^unknown flag --etcd-endpoint: did you mean --etcd-endpoints\?$/],
    [['--ip-mask'], /--ip-mask.*--ip-masq/],
    [['--ip_masq'], /--ip_masq.*--ip-masq/],
    [['--quite-another-thing'], /^unknown flag --quite-another-thing: see --help/],
    [['--constructor'], /^unknown flag --constructor/],
    [['--__proto__=1'], /^unknown flag --__proto__/],
    [['---iface=x'], /not a flag/],
    [['--=x'], /not a flag/],
    [['start'], /unexpected argument "start"/],
    [['-'], /unexpected argument "-"/],
    [['--', 'start'], /unexpected argument "start"/],
    [['--etcd-prefix'], /^--etcd-prefix needs a value/],
    [['--etcd-prefix='], /^--etcd-prefix: expected/],
    [['--etcd-endpoints=,'], /^--etcd-endpoints: expected/],
    [['--etcd-endpoints=ftp://h'], /^--etcd-endpoints: expected .*http/],
    [['--etcd-endpoints=http://a:1,ftp://root:secret@h'], /not "http:\/\/a:1,ftp:\/\/…@h"$/],
    [['--etcd-certfile=a.pem'], /^--etcd-certfile: expected --etcd-keyfile/],
    [['--etcd-keyfile=a.pem'], /^--etcd-keyfile: expected --etcd-certfile/],
    [['--etcd-password=x'], /^--etcd-password: expected --etcd-username/],
    [['--etcd-password-file=x'], /^--etcd-password-file: expected --etcd-username/],
    [['--etcd-username=x', '--etcd-password=x', '--etcd-password-file=x'], /^--etcd-password-file: .*not both/],
    [['--ip-masq=yes'], /^--ip-masq: expected true or false, not "yes"$/],
    [['--ip-masq='], /^--ip-masq: expected true or false/],
    [['--subnet-lease-renew-margin=0'], /^--subnet-lease-renew-margin: expected .*minutes from 1 to 1439, not "0"$/],
    [['--subnet-lease-renew-margin=1440'], /from 1 to 1439/],
    [['--subnet-lease-renew-margin=1h'], /from 1 to 1439/],
    [['--iptables-resync=0'], /seconds from 1/],
    [['--healthz-port=65536'], /from 0 to 65535/],
    [['--healthz-port=-1'], /from 0 to 65535/],
    [['--healthz-ip=a b'], /IP address/],
    [['--public-ip=1.2.3'], /^--public-ip: expected an IPv4 address/],
    [['--public-ip=fc00::1'], /^--public-ip: expected an IPv4 address/],
    [['--public-ipv6=10.0.0.1'], /^--public-ipv6: expected an IPv6 address/],
    [['--iface-can-reach=host'], /^--iface-can-reach: expected an IPv4 address/],
    [['--iface-regex=('], /^--iface-regex: expected a regular expression/],
    [['--mtu=67'], /^--mtu: expected .*68 to 65507/],
    [['--mtu=65508'], /68 to 65507/],
    [['--workers=65'], /^--workers: expected/],
    [['--log-format=xml'], /^--log-format: expected text or json, not "xml"$/],
    [['--source-check=loose'], /^--source-check: expected strict, outer or off/],
    [['--trusted-source=10.0.0.0/33'], /^--trusted-source: expected .*CIDR/],
    [['--control-socket='], /^--control-socket: expected/],
    [[`--control-socket=/${'x'.repeat(90)}`], /^--control-socket: expected .*90 bytes/],
    [['--v=x'], /^--v: expected/],
    [['--v=2147483648'], /^--v: expected/],
    [['--etcd-prefix', 'a\nb', '--mtu=x\ny'], /^--mtu: .*"x\\ny"$/],
  ];
  for (const [args, message] of cases) {
    test(`is refused: ${JSON.stringify(args)}`, () => assert.match(usageError(args), message));
  }

  test('is one line whatever it holds', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'binary' })), (args) => {
        try {
          readInvocation(args, {});
        } catch (error) {
          assert.ok(error instanceof UsageError);
          assert.ok(!/[\n\r]/.test(error.message));
        }
      }),
    );
  });
});

describe('flags that do nothing', () => {
  for (const args of [
    ['--kube-subnet-mgr'],
    ['-kube-subnet-mgr=true'],
    ['--kube-api-url=https://api'],
    ['--kubeconfig-file', '/etc/kubeconfig'],
    ['--kube-annotation-prefix=flannel.alpha.coreos.com'],
    ['--net-config-path=/x'],
    ['--set-node-network-unavailable'],
  ]) {
    test(`${args[0]} of Kubernetes is refused by name`, () => {
      const [name] = args[0].replace(/^--?/, '').split('=');
      assert.match(usageError(args), new RegExp(`^--${name}: .*Kubernetes.*not built yet`));
    });
  }

  test('those of Kubernetes may be switched off', () => {
    options(['--kube-subnet-mgr=false', '--kube-api-url=', '--set-node-network-unavailable=false']);
  });

  test("klog's are taken and change nothing", () => {
    const without = options([]);
    assert.deepEqual(
      options(['--vmodule=a=1', '-log_backtrace_at', 'x.go:1', '--logtostderr', '-log_dir=/x']),
      without,
    );
  });

  test('every flag has a status and a description that ends as a sentence', () => {
    for (const [name, flag] of describedFlags() as [string, FlanneldFlag<unknown>][]) {
      assert.match(flag.description, /\.$/, name);
      assert.ok(['used', 'no-use', 'unbuilt'].includes(flag.status));
    }
  });
});
