import { FlannelError, UsageError } from '../errors.js';
import { formatIpv4, formatPrefix, parseIpv4, prefixContains, type Ipv4Prefix } from '../packet/address.js';
import { runCommand, type RunCommand } from './command.js';
import { describeInterfaces, listInterfaces, runIpJson, type HostInterface } from './interfaces.js';
import { ROUTES_QUERY } from './routes.js';

/** The interface of the underlay: where datagrams leave, and whose address the tunnel's socket is bound to. */
export interface ExternalInterface {
  readonly name: string;
  readonly index: number;
  readonly mtuBytes: number;
  /** Its first address, or the one asked for. */
  readonly address: number;
}

/** What the operator said about the interface; all of it may be empty. */
export interface InterfaceChoice {
  /** `--iface`: names or addresses, the first that matches wins. */
  readonly iface?: readonly string[];
  /** `--iface-regex`: tried after `iface`; each one on all addresses first, then on all names. */
  readonly ifaceRegex?: readonly string[];
  /** `--iface-can-reach`: tried last; the interface and source address of the route to this address. */
  readonly ifaceCanReach?: string;
  /** `--public-ip`: selects the interface that has it when none of the above is given, and nothing otherwise. */
  readonly publicIp?: number;
}

/**
 * Chooses the external interface as flannel does. Without any wish it is the one that carries the default route.
 * @throws FlannelError `INTERFACE` when nothing matches: one line with the flags that were tried and the interfaces
 * there are. UsageError for a regular expression or an address that cannot be read.
 */
export async function chooseExternalInterface(
  choice: InterfaceChoice,
  run: RunCommand = runCommand,
): Promise<ExternalInterface> {
  const regexes = (choice.ifaceRegex ?? []).map(compileInterfaceRegex);
  const target = choice.ifaceCanReach === undefined ? undefined : parseReachable(choice.ifaceCanReach);
  const interfaces = await listInterfaces(run);
  const tried: string[] = [];

  for (const wanted of choice.iface ?? []) {
    const result = byNameOrAddress(interfaces, wanted);
    if (typeof result !== 'string') return result;
    tried.push(`--iface ${wanted}: ${result}`);
  }
  for (const regex of regexes) {
    const result = byRegex(interfaces, regex.expression);
    if (typeof result !== 'string') return result;
    tried.push(`--iface-regex ${regex.text}: ${result}`);
  }
  if (target !== undefined) {
    const result = await byRouteTo(interfaces, target, run);
    if (typeof result !== 'string') return result;
    tried.push(`--iface-can-reach ${formatIpv4(target)}: ${result}`);
  }
  if (tried.length === 0) {
    const result =
      choice.publicIp === undefined
        ? await byDefaultRoute(interfaces, run)
        : byNameOrAddress(interfaces, formatIpv4(choice.publicIp));
    if (typeof result !== 'string') return result;
    tried.push(
      choice.publicIp === undefined
        ? `${result} to choose the external interface by: name one with --iface`
        : `--public-ip ${formatIpv4(choice.publicIp)}: ${result}; behind NAT, say with --iface which interface to use`,
    );
  }
  throw new FlannelError('INTERFACE', `${tried.join('; ')}; this machine has ${describeInterfaces(interfaces)}`);
}

/**
 * Refuses a Network that contains the external address: a datagram to a node of such a network would be routed into
 * the tunnel that it has just left, for ever.
 * @throws FlannelError `INTERFACE`
 */
export function checkOutsideNetwork(external: ExternalInterface, network: Ipv4Prefix): void {
  if (!prefixContains(network, external.address)) return;
  throw new FlannelError(
    'INTERFACE',
    `${formatIpv4(external.address)} on ${external.name} lies inside the overlay's Network ${formatPrefix(network)}, ` +
      `so the tunnel's own datagrams would enter the tunnel again: choose another interface with --iface, ` +
      `or a Network that does not contain it`,
  );
}

/**
 * Reads a regular expression of `--iface-regex`. Flannel takes Go's syntax; what of it differs from JavaScript's and is
 * used in practice is translated: leading flags such as `(?i)`, `(?P<name>…)`, `\A`, `\z` and classes like `[:digit:]`.
 * @throws UsageError
 */
export function compileInterfaceRegex(text: string): { readonly text: string; readonly expression: RegExp } {
  const leading = /^\(\?([ims]+)\)/.exec(text);
  const body = text
    .slice(leading?.[0].length ?? 0)
    .replaceAll('(?P<', '(?<')
    .replaceAll('\\A', '^')
    .replaceAll('\\z', '$')
    .replace(/\[:(alpha|digit|alnum|lower|upper|xdigit):\]/g, (whole, name: string) => POSIX_CLASSES[name] ?? whole);
  try {
    return { text, expression: new RegExp(body, leading?.[1] ?? '') };
  } catch (error) {
    const reason = error instanceof Error ? error.message.replace(/^Invalid regular expression: /, '') : String(error);
    throw new UsageError(`--iface-regex ${text}: expected a regular expression, but ${reason}`);
  }
}

const POSIX_CLASSES: Readonly<Record<string, string>> = {
  alpha: 'a-zA-Z',
  digit: '0-9',
  alnum: 'a-zA-Z0-9',
  lower: 'a-z',
  upper: 'A-Z',
  xdigit: '0-9a-fA-F',
};

function parseReachable(text: string): number {
  const address = parseIpv4(text);
  if (address === undefined)
    throw new UsageError(`--iface-can-reach ${text}: expected an IPv4 address such as 192.0.2.1`);
  return address;
}

/** A result, or why there is none. */
type Found = ExternalInterface | string;

function byNameOrAddress(interfaces: readonly HostInterface[], wanted: string): Found {
  const address = parseIpv4(wanted);
  if (address !== undefined) {
    const holder = interfaces.find((candidate) => candidate.addresses.some((entry) => entry.address === address));
    return holder === undefined ? 'no interface has this address' : external(holder, address);
  }
  const named = interfaces.find((candidate) => candidate.name === wanted);
  return named === undefined ? 'there is no such interface' : withFirstAddress(named);
}

function byRegex(interfaces: readonly HostInterface[], expression: RegExp): Found {
  for (const candidate of interfaces) {
    const address = usableAddresses(candidate).find((entry) => expression.test(formatIpv4(entry)));
    if (address !== undefined) return external(candidate, address);
  }
  const named = interfaces.find((candidate) => expression.test(candidate.name));
  return named === undefined ? 'no address and no name matches' : withFirstAddress(named);
}

/** As far as it is used here, what `ip -json route show` and `route get` tell of a route. */
interface IpRoute {
  /** `local` for an address of this machine, which it reaches by `lo`; absent for an ordinary route. */
  readonly type?: string;
  readonly dst?: string;
  readonly dev?: string;
  readonly prefsrc?: string;
  readonly nexthops?: readonly { readonly dev?: string }[];
}

async function byRouteTo(interfaces: readonly HostInterface[], target: number, run: RunCommand): Promise<Found> {
  let routes: IpRoute[];
  try {
    routes = await runIpJson<IpRoute>(['route', 'get', formatIpv4(target)], run);
  } catch {
    // `ip` fails for an unreachable destination; a missing `ip` has been told when the interfaces were listed.
    return 'there is no route to it';
  }
  if (routes[0]?.type === 'local') return "it is this machine's own address";
  const holder = interfaces.find((candidate) => candidate.name === routes[0]?.dev);
  if (holder === undefined) return 'there is no route to it';
  const source = parseIpv4(routes[0]?.prefsrc ?? '');
  return source === undefined ? withFirstAddress(holder) : external(holder, source);
}

async function byDefaultRoute(interfaces: readonly HostInterface[], run: RunCommand): Promise<Found> {
  const routes = await runIpJson<IpRoute>(ROUTES_QUERY, run);
  const defaults = routes.filter(({ dst }) => dst === 'default');
  const device = defaults.map((route) => route.dev ?? route.nexthops?.[0]?.dev).find((name) => name !== undefined);
  const holder = interfaces.find((candidate) => candidate.name === device);
  if (holder === undefined) return 'there is no default route';
  const result = withFirstAddress(holder);
  return typeof result === 'string' ? `the default route's interface ${holder.name} has no IPv4 address` : result;
}

function withFirstAddress(found: HostInterface): Found {
  const address = usableAddresses(found)[0];
  return address === undefined ? `${found.name} has no IPv4 address to send from` : external(found, address);
}

function external(found: HostInterface, address: number): ExternalInterface {
  return { name: found.name, index: found.index, mtuBytes: found.mtuBytes, address };
}

const LOOPBACK: Ipv4Prefix = { address: 0x7f000000, length: 8 };
const LINK_LOCAL: Ipv4Prefix = { address: 0xa9fe0000, length: 16 };
const MULTICAST: Ipv4Prefix = { address: 0xe0000000, length: 4 };

/** Addresses that other nodes may reach, in the order of preference: link-local ones (RFC 3927) come last. */
function usableAddresses(candidate: HostInterface): number[] {
  const all = candidate.addresses
    .map((entry) => entry.address)
    .filter((address) => address !== 0 && !prefixContains(LOOPBACK, address) && !prefixContains(MULTICAST, address));
  return [
    ...all.filter((address) => !prefixContains(LINK_LOCAL, address)),
    ...all.filter((address) => prefixContains(LINK_LOCAL, address)),
  ];
}
