import { FLAG_GROUPS, type FlanneldFlag } from './flag-kinds.js';
import { defaultText, describedFlags } from './flag-table.js';

const INDENT = 4;
const DETAIL = 8;

/** The text of `flanneld --help`, laid out as a manual page for a terminal of `columns`. */
export function helpText(version: string, columns = 80): string {
  const width = Math.max(60, Math.min(columns, 100));
  const lines: string[] = [];
  const section = (title: string): void => {
    if (lines.length > 0) lines.push('');
    lines.push(title);
  };
  const paragraph = (text: string, indent = INDENT): void => {
    lines.push(...wrap(text, indent, width));
  };
  const pairs = (rows: readonly (readonly [string, string])[]): void => {
    const left = INDENT + Math.max(...rows.map(([name]) => name.length)) + 2;
    for (const [name, text] of rows) {
      const wrapped = wrap(text, left, width);
      lines.push(' '.repeat(INDENT) + name.padEnd(left - INDENT) + wrapped[0].trimStart(), ...wrapped.slice(1));
    }
  };

  section('NAME');
  paragraph(
    `flanneld - lease a subnet for this node and carry its pods' packets to the others (flannelette ${version})`,
  );

  section('SYNOPSIS');
  paragraph('flanneld [--FLAG[=VALUE]]...');
  paragraph('flanneld --cleanup [--etcd-prefix=PREFIX] [--subnet-file=PATH]');

  section('DESCRIPTION');
  paragraph(
    'flanneld reads the network configuration from etcd (PREFIX/config), leases one subnet of that network for this ' +
      'node, writes it to the subnet file, and forwards packets between nodes through UDP from then on. It takes the ' +
      "place of flannel's flanneld with the udp backend, and works beside it in one network.",
  );
  lines.push('');
  paragraph(
    'While the configuration is missing or invalid, no subnet is free, the interface is not there, or etcd cannot be ' +
      'reached, it says why and keeps trying; nothing needs a restart. Stopped, it leaves the lease in etcd, and is ' +
      'given the same subnet at its next start.',
  );

  section('FLAGS');
  paragraph(
    'Flags are written as flannel takes them: with one dash or two, the value after "=" or after a space. Booleans stand ' +
      'bare or with "=" (--ip-masq=false). The last of several counts, unless the flag may be repeated.',
  );
  for (const group of FLAG_GROUPS) {
    lines.push('', `  ${group}`);
    for (const [name, flag] of describedFlags()) {
      if (flag.group === group) describe(name, flag);
    }
  }

  function describe(name: string, flag: FlanneldFlag<unknown>): void {
    if (flag.status === 'used') {
      lines.push(' '.repeat(INDENT) + usage(name, flag));
      paragraph(flag.description + defaultNote(flag), DETAIL);
    } else {
      const text = `${usage(name, flag)}: ${flag.description}`;
      const wrapped = wrap(text, DETAIL, width);
      lines.push(' '.repeat(INDENT) + wrapped[0].trimStart(), ...wrapped.slice(1));
    }
  }

  section('ENVIRONMENT');
  paragraph(
    'Every flag but --help, --version and --cleanup can be given as an environment variable: FLANNELD_ and its name in ' +
      'capitals, with underscores for dashes (FLANNELD_ETCD_PREFIX, FLANNELD_IP_MASQ=true). The command line comes ' +
      'first; an empty variable counts as unset.',
  );
  lines.push('');
  pairs([
    ['NOTIFY_SOCKET', 'systemd is told READY, STATUS and STOPPING here (Type=notify).'],
    ['WATCHDOG_USEC', 'systemd is told twice within this time that the agent lives.'],
  ]);

  section('FILES');
  pairs([
    ['/run/flannel/subnet.env', 'FLANNEL_NETWORK, FLANNEL_SUBNET, FLANNEL_MTU and FLANNEL_IPMASQ of this node.'],
    ['/run/flannel/flanneld.sock', 'where flannelctl asks the agent; for root only.'],
    ['/dev/net/tun', 'must be there; the overlay device flannel0 is made through it.'],
  ]);

  section('SIGNALS');
  pairs([['SIGTERM, SIGINT', 'stop within a second. The lease, device, routes and rules stay, for the next start.']]);

  section('EXIT STATUS');
  pairs([
    ['0', 'stopped by a signal, or --help, --version or --cleanup done.'],
    ['1', 'could not go on; the last line of the log says why.'],
    ['2', 'a flag, its value or an environment variable is wrong.'],
  ]);

  section('EXAMPLES');
  paragraph('A network in etcd, once for all nodes:');
  lines.push(
    '        flannelctl network set --etcd-endpoints=http://192.0.2.10:2379 \\',
    `            '{"Network": "10.5.0.0/16", "Backend": {"Type": "udp"}}'`,
  );
  lines.push('');
  paragraph('A node, with its pods masqueraded towards the outside:');
  lines.push('        flanneld --etcd-endpoints=http://192.0.2.10:2379 --ip-masq --healthz-port=8080');
  lines.push('');
  paragraph('A second network on the same host:');
  lines.push(
    '        flanneld --etcd-prefix=/second/network --subnet-file=/run/flannel/second.env \\',
    '            --control-socket=/run/flannel/second.sock',
  );
  lines.push('');
  paragraph('etcd with TLS and a client certificate:');
  lines.push(
    '        flanneld --etcd-endpoints=https://etcd.example:2379 --etcd-cafile=ca.pem \\',
    '            --etcd-certfile=node.pem --etcd-keyfile=node-key.pem',
  );
  lines.push('');
  paragraph('A host that leaves the network:');
  lines.push('        flanneld --cleanup');

  section('SEE ALSO');
  paragraph('flannelctl(1): flannelctl status, flannelctl leases; docs/configuration.md.');
  return lines.join('\n') + '\n';
}

function usage(name: string, flag: FlanneldFlag<unknown>): string {
  const value = flag.boolean ? '' : `=${flag.placeholder}`;
  return `--${name}${value}${flag.join === undefined ? '' : ' ...'}`;
}

/** The default, unless the description says it, or there is none worth a word. */
function defaultNote(flag: FlanneldFlag<unknown>): string {
  const value = defaultText(flag);
  if (value === undefined || value === 'false' || value === '0') return '';
  const unit = flag.unit === undefined ? '' : ` ${flag.unit}`;
  return ` Default: ${value}${unit}.`;
}

function wrap(text: string, indent: number, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && indent + line.length + 1 + word.length > width) {
      lines.push(' '.repeat(indent) + line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  lines.push(' '.repeat(indent) + line);
  return lines;
}
