/** What the kernel would do with a packet by its routes: `ip route get`, which asks the same code that forwards. */
import { formatIpv4, parseIpv4 } from '../packet/address.js';
import { CommandError, runCommand, type RunCommand } from './command.js';
import { runIpJson } from './interfaces.js';

/** Where a packet would go. */
export type RouteAnswer =
  | {
      readonly kind: 'forward' | 'local' | 'broadcast';
      readonly device: string;
      readonly gateway?: number;
      /** The source that the kernel would choose. */
      readonly source?: number;
      /** A path MTU in bytes that an ICMP message has told of, or that the route states; else the device's holds. */
      readonly mtuBytes?: number;
    }
  | { readonly kind: 'refused'; readonly reason: RouteRefusal; readonly text: string };

/**
 * Why the kernel would not: no route; a route that says so (`blackhole`, `unreachable`, `prohibit`) or a host that does
 * not forward, which look alike from here; or a source that the routes do not lead back to (`rp_filter`).
 */
export type RouteRefusal = 'no-route' | 'unreachable' | 'reverse-path';

export interface RouteQuestion {
  readonly destination: number;
  readonly source?: number;
  /** The device that the packet comes in by; left out for a packet of this host's own. */
  readonly inDevice?: string;
}

interface IpRouteGet {
  readonly type?: string;
  readonly dev?: string;
  readonly gateway?: string;
  readonly prefsrc?: string;
  readonly metrics?: readonly { readonly mtu?: number }[];
}

/** The kernel's complaints, as iproute2 prints them (errno(3)). */
const REFUSALS: readonly (readonly [pattern: RegExp, reason: RouteRefusal])[] = [
  [/Invalid cross-device link/, 'reverse-path'],
  [/Network is unreachable/, 'no-route'],
  [/No route to host|Invalid argument|Permission denied/, 'unreachable'],
];

/**
 * Asks for the route of one packet.
 * @throws FlannelError `HOST` when `ip` is missing, or fails for a reason that is not about routes
 */
export async function lookUpRoute(question: RouteQuestion, run: RunCommand = runCommand): Promise<RouteAnswer> {
  const { destination, source, inDevice } = question;
  const from = source === undefined ? [] : ['from', formatIpv4(source)];
  const device = inDevice === undefined ? [] : ['iif', inDevice];
  const args = ['-4', 'route', 'get', formatIpv4(destination), ...from, ...device];
  let route: IpRouteGet | undefined;
  try {
    [route] = await runIpJson<IpRouteGet>(args, run);
  } catch (error) {
    if (!(error instanceof CommandError) || error.reason !== 'failed') throw error;
    const { stderr } = error.result;
    const refusal = REFUSALS.find(([pattern]) => pattern.test(stderr));
    if (refusal === undefined) throw error;
    return { kind: 'refused', reason: refusal[1], text: stderr.replace(/^RTNETLINK answers: /, '').trim() };
  }
  if (route?.dev === undefined) return { kind: 'refused', reason: 'no-route', text: 'no device' };
  const kind = route.type === 'local' || route.type === 'broadcast' ? route.type : 'forward';
  return {
    kind,
    device: route.dev,
    gateway: parseIpv4(route.gateway ?? ''),
    source: parseIpv4(route.prefsrc ?? ''),
    mtuBytes: route.metrics?.find(({ mtu }) => mtu !== undefined)?.mtu,
  };
}

/** A rule of the routing policy database (ip-rule(8)). */
export interface PolicyRule {
  readonly priority: number;
  readonly text: string;
}

const DEFAULT_TABLES = new Set(['local', 'main', 'default']);

/** The policy rules beyond the three that every host has. @throws FlannelError `HOST` */
export async function listPolicyRules(run: RunCommand = runCommand): Promise<PolicyRule[]> {
  const rules = await runIpJson<Record<string, unknown>>(['-4', 'rule', 'show'], run);
  return rules
    .filter((rule) => rule.src !== 'all' || Object.keys(rule).length > 3 || !DEFAULT_TABLES.has(String(rule.table)))
    .map((rule) => ({
      priority: Number(rule.priority),
      text: Object.entries(rule)
        .filter(([key]) => key !== 'priority')
        .map(([key, value]) => `${key} ${String(value)}`)
        .join(' '),
    }));
}
