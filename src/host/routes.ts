import {
  formatPrefix,
  parseIpv4,
  parsePrefix,
  prefixCovers,
  prefixesEqual,
  type Ipv4Prefix,
} from '../packet/address.js';
import { runCommand, type RunCommand } from './command.js';
import { runIpJson } from './interfaces.js';

/** An IPv4 route of the main table. */
export interface Route {
  readonly destination: Ipv4Prefix;
  /** Absent for a route that leads nowhere (`blackhole`, `unreachable`) or to several devices. */
  readonly device?: string;
  readonly type: string;
  readonly metric: number;
  /** The device has no carrier: nobody holds the TUN, so its daemon is dead. */
  readonly linkDown: boolean;
}

interface IpRoute {
  readonly type?: string;
  readonly dst: string;
  readonly dev?: string;
  readonly metric?: number;
  readonly flags?: readonly string[];
}

/** What `ip -json` is asked for them. */
export const ROUTES_QUERY: readonly string[] = ['-4', 'route', 'show', 'table', 'main'];

/**
 * Lists the IPv4 routes of the main table, most preferred first among those of one destination.
 * @throws FlannelError `HOST`
 */
export async function listRoutes(run: RunCommand = runCommand): Promise<Route[]> {
  const shown = await runIpJson<IpRoute>(ROUTES_QUERY, run);
  return shown.flatMap((route) => {
    const destination = parseDestination(route.dst);
    if (destination === undefined) return [];
    return [
      {
        destination,
        device: route.dev,
        type: route.type ?? 'unicast',
        metric: route.metric ?? 0,
        linkDown: (route.flags ?? []).includes('linkdown'),
      },
    ];
  });
}

/** `ip` writes `default` for 0.0.0.0/0 and a host route without its length. */
function parseDestination(text: string): Ipv4Prefix | undefined {
  if (text === 'default') return { address: 0, length: 0 };
  const address = parseIpv4(text);
  return address === undefined ? parsePrefix(text) : { address, length: 32 };
}

/** Deletes the route to a network through a device. Answers whether there was one. @throws FlannelError `HOST` */
export async function deleteRoute(network: Ipv4Prefix, device: string, run: RunCommand = runCommand): Promise<boolean> {
  const present = (await listRoutes(run)).some(
    (route) => route.device === device && prefixesEqual(route.destination, network),
  );
  if (present) await run('ip', ['route', 'delete', formatPrefix(network), 'dev', device]);
  return present;
}

/**
 * The metric of `--ip-blackhole-route`'s route. Flannel gives it none, and the kernel adds the connected route of a
 * bridge with the same subnet *behind* such a route, which cuts all pods off. With a metric, the bridge's route wins,
 * and the blackhole catches what the bridge does not: packets to pods that are gone, when pods have routes of their own.
 */
export const BLACKHOLE_METRIC = 1_000_000;

/**
 * Puts a blackhole route for this node's own subnet in place, so that packets to pods that do not exist are dropped here
 * instead of following the route to the whole network. Ones for an earlier subnet of the network go away; all of them do
 * when `subnet` is undefined. Answers the prefixes that were removed.
 * @throws FlannelError `HOST`
 */
export async function ensureBlackholeRoute(
  network: Ipv4Prefix,
  subnet: Ipv4Prefix | undefined,
  run: RunCommand = runCommand,
): Promise<Ipv4Prefix[]> {
  const ours = (await listRoutes(run)).filter(
    (route) =>
      route.type === 'blackhole' && route.metric === BLACKHOLE_METRIC && prefixCovers(network, route.destination),
  );
  if (subnet !== undefined && !ours.some((route) => prefixesEqual(route.destination, subnet))) {
    await run('ip', ['route', 'replace', 'blackhole', formatPrefix(subnet), 'metric', String(BLACKHOLE_METRIC)]);
  }
  const stale = ours.filter((route) => subnet === undefined || !prefixesEqual(route.destination, subnet));
  for (const { destination } of stale) {
    await run('ip', ['route', 'delete', 'blackhole', formatPrefix(destination), 'metric', String(BLACKHOLE_METRIC)]);
  }
  return stale.map((route) => route.destination);
}
