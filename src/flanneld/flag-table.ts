import { isIP } from 'node:net';

import type { SourceCheck } from '../backend/backend.js';
import { OFFLOADS, parseOffloadNames, type OffloadName } from '../dataplane/offloads.js';
import { compileInterfaceRegex } from '../host/external-interface.js';
import { parseIpv4, parsePrefix, type Ipv4Prefix } from '../packet/address.js';
import { boolean, choice, integer, list, text, type FlagDescription, type FlanneldFlag } from './flag-kinds.js';
import { parseGoInteger, type FlagValues } from './go-flags.js';

const etcd = (description: string): FlagDescription => ({ group: 'etcd', description });
const underlay = (description: string): FlagDescription => ({ group: 'Underlay', description });
const lease = (description: string): FlagDescription => ({ group: 'Lease', description });
const firewall = (description: string): FlagDescription => ({ group: 'Firewall and routes', description });
const health = (description: string): FlagDescription => ({ group: 'Health and logs', description });
const own = (description: string): FlagDescription => ({ group: "This project's own", description });
const kubernetes = (description: string): FlagDescription => ({
  group: 'Kubernetes, not built yet: refused when set',
  description,
  status: 'unbuilt',
});
const klog = (description: string): FlagDescription => ({
  group: "klog's, accepted and of no use",
  description,
  status: 'no-use',
});

/** Every flag there is. `docs/configuration.md` is held against this table by a test. */
export const FLAGS = {
  'etcd-endpoints': text(
    etcd(
      'The etcd servers, separated by commas. One without a scheme is taken as http://, or as https:// when a certificate or CA is given.',
    ),
    'http://127.0.0.1:4001,http://127.0.0.1:2379',
    'URL[,URL...]',
    'http:// or https:// addresses separated by commas',
    (given) => given.split(',').every(isEndpoint),
  ),
  'etcd-prefix': text(
    etcd(
      "Where the network's keys begin: PREFIX/config and PREFIX/subnets/. Tells several networks on one host apart.",
    ),
    '/coreos.com/network',
    'PREFIX',
  ),
  'etcd-keyfile': text(etcd("The client certificate's private key, in PEM."), '', 'PATH'),
  'etcd-certfile': text(etcd('The client certificate shown to etcd, in PEM; needs --etcd-keyfile.'), '', 'PATH'),
  'etcd-cafile': text(
    etcd("The authority that signed etcd's certificate, in PEM. Works without a client certificate as well."),
    '',
    'PATH',
  ),
  'etcd-username': text(etcd('The user to log in to etcd with.'), '', 'NAME'),
  'etcd-password': text(
    etcd("The user's password. In the environment it stays out of the process list: FLANNELD_ETCD_PASSWORD."),
    '',
    'PASSWORD',
  ),
  'etcd-password-file': text(
    etcd("A file that holds the user's password; a line break at its end does not count. Read again for every login."),
    '',
    'PATH',
  ),

  iface: list(
    underlay(
      'The interface that leads to the other nodes, by name or by an address it has. Repeat it to try several; the first ' +
        'that fits is taken. By default the one with the default route. In the environment, separate several by commas.',
    ),
    'NAME|IP',
    "an interface's name or IP",
    (given) => given,
    /,/,
  ),
  'iface-regex': list(
    underlay(
      'A regular expression tried on addresses first, then on names, after every --iface has failed. Repeat it to try several.',
    ),
    'REGEX',
    'a regular expression',
    (given) => (isRegex(given) ? given : undefined),
  ),
  'iface-can-reach': text(
    underlay("Take the interface that the host's routes lead to this address by, as `ip route get` shows it."),
    '',
    'IP',
    'an IPv4 address',
    isIpv4,
  ),
  'public-ip': text(
    underlay(
      'The address other nodes reach this one at, when it is not the one on the interface (NAT). Without any --iface ' +
        'flag it also selects the interface that has it.',
    ),
    '',
    'IP',
    'an IPv4 address',
    isIpv4,
  ),
  'public-ipv6': text(
    underlay('As --public-ip, for IPv6. The udp backend carries IPv4 only and does not use it.'),
    '',
    'IP',
    'an IPv6 address',
    (given) => isIP(given) === 6,
  ),

  'subnet-file': text(
    lease(
      'Where the subnet, the MTU and the rest are written as environment variables for Docker, CNI plugins and scripts. ' +
        'Read at start, to ask for the same subnet again.',
    ),
    '/run/flannel/subnet.env',
    'PATH',
  ),
  'subnet-lease-renew-margin': integer(
    { ...lease('How long before its expiry the lease is renewed.'), unit: 'minutes' },
    60,
    1,
    1439,
  ),

  'ip-masq': boolean(firewall('Masquerade what pods send out of the overlay network.'), false),
  'ip-masq-fully-random-disable': boolean(
    firewall('Leave --random-fully out of the masquerade rules. It is put in by default where the kernel has it.'),
    false,
  ),
  'iptables-forward-rules': boolean(
    firewall("Accept forwarding from and to the network, which Docker's FORWARD policy would drop."),
    true,
  ),
  'iptables-resync': integer(
    { ...firewall('How often the rules are checked and, where someone removed them, put back.'), unit: 'seconds' },
    5,
    1,
    86_400,
  ),
  'ip-blackhole-route': boolean(
    firewall("Add a blackhole route for this node's subnet, so that packets for pods that do not exist end here."),
    false,
  ),

  'healthz-ip': text(
    health('The address the health server listens on.'),
    '0.0.0.0',
    'IP',
    'an IP address or host name',
    (given) => isIP(given) !== 0 || /^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(given),
  ),
  'healthz-port': integer(
    health('The port of the health server, which answers /healthz, /readyz and /metrics (Prometheus). 0: no server.'),
    0,
    0,
    65_535,
  ),
  v: integer(
    health('How much is logged: 0 for what an operator wants to know, 1 and above for details.'),
    0,
    -(2 ** 31),
    2 ** 31 - 1,
  ),
  version: boolean({ ...health('Print the version and exit.'), action: true }, false),

  'control-socket': text(
    own('The unix socket that flannelctl talks to. Give each of several networks on one host its own.'),
    '/run/flannel/flanneld.sock',
    'PATH',
    'a path of at most 90 bytes',
    (given) => Buffer.byteLength(given) <= 90,
  ),
  'control-group': text(
    own(
      'A group whose members may ask on the control socket as well, beside root and the user of the daemon. They see ' +
        "what is inside of all pods' packets (flannelctl trace).",
    ),
    '',
    'GROUP',
    'the name of a group',
  ),
  user: text(
    own(
      'The user to run as. Started as root, the daemon becomes this user before it does anything, and keeps no ' +
        'capabilities but those for networking.',
    ),
    '',
    'NAME',
    'the name of a user',
  ),
  mtu: {
    ...integer(
      {
        ...own(
          "The overlay's MTU. By default, or with 0, it is the network configuration's, or else the external interface's " +
            'less 28 for IPv4 and UDP.',
        ),
        unit: 'bytes',
      },
      0,
      0,
      65_507,
    ),
    expected: '0, or a whole number of bytes from 68 to 65507',
    parse(given: string): number | undefined {
      const number = parseGoInteger(given);
      return number === 0 || (number !== undefined && number >= 68 && number <= 65_507) ? number : undefined;
    },
  },
  workers: integer(
    own('Packet workers per direction, each with a queue of the device and a socket of its own; 0 is one.'),
    0,
    0,
    64,
  ),
  'disable-offload': {
    ...list<OffloadName>(
      own(
        'Offloads of the kernel not to use, for debugging and comparison, separated by commas; all leaves out every one. `flannelctl status` shows ' +
          `which are in use. They are ${OFFLOADS.map(({ name }) => name).join(', ')}.`,
      ),
      'NAME[,NAME...]',
      `all, or some of ${OFFLOADS.map(({ name }) => name).join(', ')}, separated by commas`,
      () => undefined,
    ),
    parse: parseOffloadNames,
  },
  'log-format': choice<'text' | 'json'>(
    own('Lines for people, or JSON objects, one a line. Both go to standard error.'),
    ['text', 'json'],
    'text',
  ),
  'source-check': choice<SourceCheck>(
    own(
      "What an arriving datagram must prove. strict: its sender is a node's public IP or trusted, an inner source within the " +
        "network lies in that node's subnet, and the destination is in ours. outer: sender and destination only. off: destination only.",
    ),
    ['strict', 'outer', 'off'],
    'strict',
  ),
  'trusted-source': list<Ipv4Prefix>(
    own(
      'Senders to take datagrams from though no lease names them: nodes whose datagrams leave from another address than ' +
        'the one they advertise. Repeat it, or separate several by commas in the environment.',
    ),
    'CIDR',
    'an IPv4 address or CIDR such as 192.0.2.0/24',
    (given) => parsePrefix(given) ?? parsePrefix(`${given}/32`),
    /,/,
  ),
  takeover: boolean(
    {
      ...own(
        'Take the place of the flanneld that runs with the same --control-socket, without losing a packet; it ends then. ' +
          'Where none runs, start as ever. For upgrades without a service manager.',
      ),
      action: true,
    },
    false,
  ),
  cleanup: boolean(
    {
      ...own(
        'Remove everything this network made on this host (device, routes, firewall rules, files), say what was removed, ' +
          'and exit. For a host that leaves the network; refused while its daemon runs. The lease in the store is left alone.',
      ),
      action: true,
    },
    false,
  ),

  'kube-subnet-mgr': boolean(kubernetes('Lease subnets from the Kubernetes API instead of etcd.'), false),
  'kube-api-url': text(kubernetes('The Kubernetes API server.'), '', 'URL'),
  'kubeconfig-file': text(kubernetes('A kubeconfig file.'), '', 'PATH'),
  'kube-annotation-prefix': text(
    kubernetes("The prefix of the nodes' annotations."),
    'flannel.alpha.coreos.com',
    'PREFIX',
  ),
  'net-config-path': text(
    kubernetes('The network configuration as a file.'),
    '/etc/kube-flannel/net-conf.json',
    'PATH',
  ),
  'set-node-network-unavailable': boolean(kubernetes('Set the NodeNetworkUnavailable condition once ready.'), true),

  vmodule: text(klog('Log levels by source file.'), '', 'PATTERN=N,...'),
  log_backtrace_at: text(klog('Log a stack trace at a source line.'), '', 'FILE:N'),
  logtostderr: boolean(klog('Log to standard error, which is always so here.'), true),
  alsologtostderr: boolean(klog('Log to standard error as well as to files.'), false),
  stderrthreshold: text(klog('The severity from which lines go to standard error.'), '', 'SEVERITY'),
  log_dir: text(klog('A folder for log files.'), '', 'PATH'),
  log_file: text(klog('A log file.'), '', 'PATH'),
  log_file_max_size: text(klog("A log file's largest size."), '', 'MEGABYTES'),
  add_dir_header: boolean(klog('Add the folder to a log line.'), false),
  skip_headers: boolean(klog('Leave out headers of log lines.'), false),
  skip_log_headers: boolean(klog('Leave out headers of log files.'), false),
  one_output: boolean(klog('Log to the own severity only.'), false),
} satisfies Record<string, FlanneldFlag<unknown>>;

/** The values of all flags, by name. */
export type FlanneldFlagValues = FlagValues<typeof FLAGS>;

/** The table as a list, for those who only describe it. */
export function describedFlags(): readonly (readonly [name: string, flag: FlanneldFlag<unknown>])[] {
  return Object.entries(FLAGS);
}

/** A flag's default as its user would write it; `undefined` when there is nothing to show. */
export function defaultText(flag: FlanneldFlag<unknown>): string | undefined {
  const value = flag.default;
  if (typeof value === 'boolean') return value ? 'true' : 'false';
  if (typeof value === 'number') return String(value);
  if (typeof value === 'string' && value !== '') return value;
  return undefined;
}

function isEndpoint(given: string): boolean {
  const url = given.trim();
  if (/^unix:(\/\/)?\/./.test(url)) return true;
  const withScheme = url.includes('://') ? url : `http://${url}`;
  if (!URL.canParse(withScheme)) return false;
  const { protocol, hostname } = new URL(withScheme);
  return (protocol === 'http:' || protocol === 'https:') && hostname !== '';
}

function isIpv4(given: string): boolean {
  return parseIpv4(given) !== undefined;
}

function isRegex(given: string): boolean {
  try {
    compileInterfaceRegex(given);
    return true;
  } catch {
    return false;
  }
}
