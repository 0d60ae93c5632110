import type { ExternalInterface } from '../host/external-interface.js';
import { checkOutsideNetwork, chooseExternalInterface } from '../host/external-interface.js';
import type { RunCommand } from '../host/command.js';
import type { Firewall } from '../host/firewall/firewall.js';
import { localAddresses } from '../host/local-addresses.js';
import { ensureBlackholeRoute } from '../host/routes.js';
import { forwardingWarning } from '../host/sysctl.js';
import type { Logger } from '../log.js';
import { formatIpv4, prefixesEqual, type Ipv4Prefix } from '../packet/address.js';
import type { Lease } from '../subnet/lease.js';
import type { NetworkConfig } from '../subnet/network-config.js';
import { readSubnetEnv, writeSubnetEnv } from '../subnet/subnet-env.js';
import type { FlanneldOptions } from './flags.js';
import type { NodeHost } from './node-host.js';

/** The machine that this process runs on, as the flags want it. */
export class Machine implements NodeHost {
  readonly #options: FlanneldOptions;
  readonly #logger: Logger;
  readonly #run: RunCommand;
  #firewall: { readonly rules: Firewall; readonly config: NetworkConfig; readonly subnet: Ipv4Prefix } | undefined;

  /** @param run - how it is asked for the interface to send by */
  constructor(options: FlanneldOptions, logger: Logger, run: RunCommand) {
    this.#options = options;
    this.#logger = logger;
    this.#run = run;
  }

  chooseInterface(): Promise<ExternalInterface> {
    const { interfaces, patterns, canReach, publicIp } = this.#options.underlay;
    return chooseExternalInterface(
      {
        iface: interfaces,
        ifaceRegex: patterns,
        ifaceCanReach: canReach === undefined ? undefined : formatIpv4(canReach),
        publicIp,
      },
      this.#run,
    );
  }

  checkInterface(external: ExternalInterface, config: NetworkConfig): void {
    checkOutsideNetwork(external, config.network);
  }

  async hasAddress(address: number): Promise<boolean> {
    return (await localAddresses()).includes(address);
  }

  async previousSubnet(): Promise<Ipv4Prefix | undefined> {
    return (await readSubnetEnv(this.#options.subnetFile)).subnet;
  }

  async ensureRules(config: NetworkConfig, lease: Lease): Promise<void> {
    const { blackholeRoute } = this.#options.firewall;
    const first = this.#firewall?.config !== config || !prefixesEqual(this.#firewall.subnet, lease.subnet);
    if (first) this.#firewall = { rules: await this.#openFirewall(config, lease), config, subnet: lease.subnet };
    const rules = this.#firewall?.rules;
    if (rules === undefined) return;
    const { added, removed } = await rules.ensure();
    if (added > 0 || removed > 0) {
      const fields = { tool: rules.tool, added, removed };
      if (first) this.#logger.info('firewall rules are in place', fields);
      else this.#logger.warn('firewall rules were missing or changed: put back', fields);
    }
    if (blackholeRoute || first) await ensureBlackholeRoute(config.network, blackholeRoute ? lease.subnet : undefined);
  }

  async #openFirewall(config: NetworkConfig, lease: Lease): Promise<Firewall> {
    const { masquerade, forwardRules, fullyRandom } = this.#options.firewall;
    // Loaded only now: rules outlive a restart, and packets flow by then.
    const { Firewall } = await import('../host/firewall/firewall.js');
    const { network: previous } = await readSubnetEnv(this.#options.subnetFile);
    return Firewall.open(
      {
        network: config.network,
        subnet: lease.subnet,
        masquerade,
        forward: forwardRules,
        fullyRandom,
        nftables: config.enableNftables,
        previousNetworks: previous === undefined ? [] : [previous],
      },
      this.#logger,
    );
  }

  writeSubnetFile(config: NetworkConfig, lease: Lease, mtuBytes: number): Promise<void> {
    return writeSubnetEnv(this.#options.subnetFile, {
      network: config.network,
      subnet: lease.subnet,
      mtuBytes,
      ipMasq: this.#options.firewall.masquerade,
    });
  }

  async warnings(): Promise<readonly string[]> {
    const { publicIpv6 } = this.#options.underlay;
    const warnings = [await forwardingWarning()];
    if (publicIpv6 !== undefined) warnings.push('--public-ipv6 has no effect: the udp backend carries IPv4 only');
    return warnings.filter((warning) => warning !== undefined);
  }
}
