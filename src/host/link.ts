import { createHash } from 'node:crypto';
import { formatIpv4, formatPrefix, prefixesEqual, type Ipv4Prefix } from '../packet/address.js';
import { runCommand, type RunCommand } from './command.js';
import { listInterfaces, type HostInterface } from './interfaces.js';
import { deleteRoute, listRoutes } from './routes.js';

/** Every overlay device carries `flannelette:<network id>` as its alias: so a restart, and `--cleanup`, find it again. */
const LINK_ALIAS_PREFIX = 'flannelette:';

/** The kernel's limit for an alias (IFALIASZ − 1, linux/if.h). */
const LINK_ALIAS_MAX_BYTES = 255;

/** The alias of a network's device. A network id too long for an alias is represented by its hash. */
export function linkAlias(networkId: string): string {
  const alias = LINK_ALIAS_PREFIX + networkId;
  if (Buffer.byteLength(alias) <= LINK_ALIAS_MAX_BYTES) return alias;
  return `${LINK_ALIAS_PREFIX}sha256-${createHash('sha256').update(networkId).digest('hex')}`;
}

/** The devices that carry a network's alias; more than one only when something went wrong. @throws FlannelError `HOST` */
export async function findLinks(networkId: string, run: RunCommand = runCommand): Promise<HostInterface[]> {
  const alias = linkAlias(networkId);
  return (await listInterfaces(run)).filter((candidate) => candidate.alias === alias);
}

/** How an overlay device is to look. */
export interface LinkSettings {
  readonly name: string;
  /** Names the network that the device belongs to, see `linkAlias`. */
  readonly networkId: string;
  readonly mtuBytes: number;
  /** How many packets the device's transmit queue holds (`txqueuelen`). */
  readonly queuePackets: number;
  /** Becomes the device's only IPv4 address, as /32: no broadcast address and no connected route come with it. */
  readonly address: number;
  /** Routed through the device. A route to the same network through another device, left by a dead daemon, gives way. */
  readonly network: Ipv4Prefix;
}

/**
 * Gives an existing device its alias, MTU, queue, address and route, and brings it up. Whatever is right already stays as it
 * is, so packets keep flowing over a restart; addresses and routes of an earlier configuration go away. The device gets
 * no IPv6 address of its own: its tunnel carries IPv4 only.
 * @throws FlannelError `HOST`
 */
export async function configureLink(settings: LinkSettings, run: RunCommand = runCommand): Promise<void> {
  const { name } = settings;
  const address = `${formatIpv4(settings.address)}/32`;
  // A kernel without IPv6 refuses this, and then there is nothing to switch off either.
  await run('ip', ['link', 'set', 'dev', name, 'addrgenmode', 'none'], { allowFailure: true });
  // Not in the batch below, which has no way to quote every character that a network id may have.
  await run('ip', ['link', 'set', 'dev', name, 'alias', linkAlias(settings.networkId)]);
  // One process for the rest. A failed line ends the batch and is what the error tells.
  const commands = [
    `link set dev ${name} mtu ${settings.mtuBytes} txqueuelen ${settings.queuePackets}`,
    `address replace ${address} dev ${name}`,
    `link set dev ${name} up`,
    `route replace ${formatPrefix(settings.network)} dev ${name} scope global`,
  ];
  await run('ip', ['-batch', '-'], { input: `${commands.join('\n')}\n` });

  const device = (await listInterfaces(run)).find((candidate) => candidate.name === name);
  for (const other of device?.addresses ?? []) {
    if (other.address === settings.address && other.prefixLength === 32) continue;
    await run('ip', ['address', 'delete', `${formatIpv4(other.address)}/${other.prefixLength}`, 'dev', name]);
  }
  // The Network of an earlier configuration: flannel's device would have died with its daemon, and its routes with it.
  for (const { device: through, destination } of await listRoutes(run)) {
    if (through === name && !prefixesEqual(destination, settings.network)) await deleteRoute(destination, name, run);
  }
}

/** Deletes a device, and with it its addresses and routes. @throws FlannelError `HOST` */
export async function deleteLink(name: string, run: RunCommand = runCommand): Promise<void> {
  await run('ip', ['link', 'delete', 'dev', name]);
}
