import { errorMessage, FlannelError } from '../../errors.js';
import type { Logger } from '../../log.js';
import type { Ipv4Prefix } from '../../packet/address.js';
import { CommandError, runCommand, type RunCommand } from '../command.js';
import { Iptables } from './iptables.js';
import { Nftables } from './nftables.js';
import type { FilterChange, PacketFilter } from './packet-filter.js';
import { forwardRules, masqueradeRules, NO_RULES, type WantedRules } from './rules.js';

/** What a network wants of the firewall. */
export interface FirewallSettings {
  readonly network: Ipv4Prefix;
  /** This node's own. */
  readonly subnet: Ipv4Prefix;
  /** `--ip-masq` */
  readonly masquerade: boolean;
  /** `--iptables-forward-rules` */
  readonly forward: boolean;
  /** False for `--ip-masq-fully-random-disable`. */
  readonly fullyRandom: boolean;
  /** `EnableNFTables` of the network configuration: a preference, where both tools exist. */
  readonly nftables: boolean;
  /** Networks that this agent served before (`FLANNEL_NETWORK` of the last subnet.env): their rules go away. */
  readonly previousNetworks?: readonly Ipv4Prefix[];
}

/**
 * Which of the two tools this machine has, and this user may use: iptables-legacy wants root whatever capabilities there
 * are, for its lock and its list of tables are files of root's.
 */
export async function findPacketFilters(
  run: RunCommand = runCommand,
  isRoot: boolean = process.geteuid?.() === 0,
): Promise<PacketFilter[]> {
  const iptables = isRoot ? /^/ : /\(nf_tables\)/;
  const found = await Promise.all([isUsable('iptables', iptables, run), isUsable('nft', /^/, run)]);
  const filters: PacketFilter[] = [new Iptables(run), new Nftables(run)];
  return filters.filter((_, index) => found[index]);
}

async function isUsable(program: string, version: RegExp, run: RunCommand): Promise<boolean> {
  try {
    const { status, stdout } = await run(program, ['--version'], { allowFailure: true });
    return status === 0 && version.test(stdout);
  } catch (error) {
    if (error instanceof CommandError && error.reason === 'missing') return false;
    throw error;
  }
}

/** One network's rules in this machine's firewall. Call `ensure` every so often: others flush chains, too. */
export class Firewall {
  readonly #settings: FirewallSettings;
  readonly #logger: Logger;
  readonly #filter: PacketFilter | undefined;
  /** The tool that is not used; rules may be left in it from a time when it was. */
  readonly #other: PacketFilter | undefined;
  #fullyRandom: boolean;
  #otherChecked = false;

  private constructor(settings: FirewallSettings, filters: readonly PacketFilter[], logger: Logger) {
    const preferred = settings.nftables ? 'nftables' : 'iptables';
    this.#settings = settings;
    this.#logger = logger;
    this.#filter = filters.find(({ name }) => name === preferred) ?? filters[0];
    this.#other = filters.find((filter) => filter !== this.#filter);
    this.#fullyRandom = settings.fullyRandom;
    if (this.#filter !== undefined && this.#filter.name !== preferred) {
      logger.info(`using ${this.#filter.name} for the firewall rules, since ${preferred} is not there for this user`);
    }
  }

  /**
   * Finds the tool to use: the one that the network configuration asks for, or the only one there is.
   * @throws FlannelError `HOST` when there is none and masquerading is asked for. The rules for forwarding are on by
   * default, and a machine without a packet filter needs none.
   */
  static async open(settings: FirewallSettings, logger: Logger, run: RunCommand = runCommand): Promise<Firewall> {
    const filters = await findPacketFilters(run);
    if (filters.length === 0 && settings.masquerade) {
      throw new FlannelError(
        'HOST',
        '--ip-masq needs iptables or nft, and neither is installed: install the package iptables, or start without --ip-masq',
      );
    }
    return new Firewall(settings, filters, logger);
  }

  /** The tool in use; `none` on a machine that has neither. */
  get tool(): 'iptables' | 'nftables' | 'none' {
    return this.#filter?.name ?? 'none';
  }

  /**
   * Brings this network's rules into the wanted state: adds what is missing, repairs their order, and removes those of
   * an earlier subnet, configuration or tool. Costs one read when all is in place.
   * @throws FlannelError `HOST`
   */
  async ensure(): Promise<FilterChange> {
    if (this.#filter === undefined) return { added: 0, removed: 0, dropped: [] };
    const change = await this.#apply(this.#filter);
    if (!this.#otherChecked) await this.#clearOther();
    return change;
  }

  async #apply(filter: PacketFilter): Promise<FilterChange> {
    try {
      return await filter.apply(this.#wanted(), this.#networks());
    } catch (error) {
      if (!this.#fullyRandom || !this.#settings.masquerade || !isRefusal(error)) throw error;
      // Kernels before 3.14 and iptables before 1.6.2 cannot choose ports fully at random; all else may be wrong as
      // well, and then this fails in the same way and the first complaint is the one to tell.
      this.#fullyRandom = false;
      try {
        const change = await filter.apply(this.#wanted(), this.#networks());
        this.#logger.info('masquerading without fully random ports, which this machine does not support');
        return change;
      } catch {
        this.#fullyRandom = true;
        throw error;
      }
    }
  }

  async #clearOther(): Promise<void> {
    this.#otherChecked = true;
    try {
      const change = await this.#other?.apply(NO_RULES, this.#networks());
      if (change !== undefined && change.removed > 0) {
        this.#logger.info('removed rules of an earlier run', { tool: this.#other?.name, removed: change.removed });
      }
    } catch (error) {
      // The tool is there but its kernel side may not be; then it holds no rules either.
      this.#logger.debug(`cannot look for old rules: ${errorMessage(error)}`);
    }
  }

  #networks(): Ipv4Prefix[] {
    return [this.#settings.network, ...(this.#settings.previousNetworks ?? [])];
  }

  #wanted(): WantedRules {
    const { network, subnet, masquerade, forward } = this.#settings;
    return {
      masquerade: masquerade ? masqueradeRules(network, subnet, this.#fullyRandom) : [],
      forward: forward ? forwardRules(network) : [],
    };
  }
}

function isRefusal(error: unknown): boolean {
  return error instanceof CommandError && error.reason === 'failed';
}
