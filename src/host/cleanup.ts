import { errorMessage } from '../errors.js';
import { formatPrefix, prefixesEqual, type Ipv4Prefix } from '../packet/address.js';
import { runCommand, type RunCommand } from './command.js';
import { findPacketFilters } from './firewall/firewall.js';
import { NO_RULES } from './firewall/rules.js';
import { deleteLink, findLinks } from './link.js';
import { ensureBlackholeRoute, listRoutes } from './routes.js';

/** What was taken away, and what could not be, one line each, for people. */
export interface CleanupReport {
  readonly removed: readonly string[];
  readonly failed: readonly string[];
}

/**
 * Takes away all that one network made on this host: its device with address and routes, blackhole routes and firewall
 * rules. Everything else, other networks' rules in the same chains included, stays. Goes on when a step fails; never
 * rejects. The network's agent must not be running.
 * @param networkId as given to the backend, see `linkAlias`
 * @param networks the Networks it is known to have had (from subnet.env or the configuration); what the device's routes
 * tell is added
 */
export async function cleanUpNetwork(
  networkId: string,
  networks: readonly Ipv4Prefix[],
  run: RunCommand = runCommand,
): Promise<CleanupReport> {
  const removed: string[] = [];
  const failed: string[] = [];
  const known = [...networks];

  async function step(what: string, action: () => Promise<void>): Promise<void> {
    try {
      await action();
    } catch (error) {
      failed.push(`${what}: ${errorMessage(error)}`);
    }
  }

  await step('device', async () => {
    const links = await findLinks(networkId, run);
    const routes = links.length === 0 ? [] : await listRoutes(run);
    for (const { name } of links) {
      const through = routes.filter((route) => route.device === name).map((route) => route.destination);
      known.push(...through.filter((network) => !known.some((other) => prefixesEqual(other, network))));
      await deleteLink(name, run);
      removed.push(...through.map((network) => `route ${formatPrefix(network)} dev ${name}`), `device ${name}`);
    }
  });
  for (const network of known) {
    await step('blackhole routes', async () => {
      const gone = await ensureBlackholeRoute(network, undefined, run);
      removed.push(...gone.map((destination) => `route blackhole ${formatPrefix(destination)}`));
    });
  }
  await step('firewall', async () => {
    if (known.length === 0) return;
    for (const filter of await findPacketFilters(run)) {
      await step(filter.name, async () => {
        const change = await filter.apply(NO_RULES, known);
        if (change.removed > 0)
          removed.push(`${change.removed} ${filter.name} rules of ${known.map(formatPrefix).join(', ')}`);
        removed.push(...change.dropped);
      });
    }
  });
  return { removed, failed };
}
