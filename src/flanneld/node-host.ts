import type { ExternalInterface } from '../host/external-interface.js';
import type { Ipv4Prefix } from '../packet/address.js';
import type { Lease } from '../subnet/lease.js';
import type { NetworkConfig } from '../subnet/network-config.js';

/** What an agent does to the machine it runs on, beside the backend. */
export interface NodeHost {
  /** @throws FlannelError `INTERFACE` when none fits */
  chooseInterface(): Promise<ExternalInterface>;
  /** Whether an address is still one of this host's. */
  hasAddress(address: number): Promise<boolean>;
  /** @throws FlannelError `INTERFACE` when datagrams from this interface would enter the tunnel again */
  checkInterface(external: ExternalInterface, config: NetworkConfig): void;
  /** The subnet of an earlier run, if it can be told. */
  previousSubnet(): Promise<Ipv4Prefix | undefined>;
  /** Firewall rules and routes of this node's subnet, as the flags ask for them; called again and again. */
  ensureRules(config: NetworkConfig, lease: Lease): Promise<void>;
  writeSubnetFile(config: NetworkConfig, lease: Lease, mtuBytes: number): Promise<void>;
  /** What an operator should know about this machine before packets are to flow, one line each. */
  warnings(): Promise<readonly string[]>;
}
