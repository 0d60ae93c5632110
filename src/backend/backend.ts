import type { SourceCheck } from '../dataplane/decap.js';
import type { OffloadName } from '../dataplane/offloads.js';
import type { RunCommand } from '../host/command.js';
import type { ExternalInterface } from '../host/external-interface.js';
import type { Logger } from '../log.js';
import type { Ipv4Prefix } from '../packet/address.js';
import type { Lease } from '../subnet/lease.js';
import type { NetworkConfig } from '../subnet/network-config.js';
import type { DescriptorStore, StoredDescriptor } from './descriptor-store.js';
import type { ExplainPacket } from './explain.js';
import type { BackendStatus } from './status.js';
import type { TapSource } from './tap-source.js';

/** How packets travel between nodes; one implementation per `Backend.Type` of the network configuration. */
export interface Backend {
  /** The name in the configuration. */
  readonly type: string;

  /**
   * Refuses a configuration or interface it cannot serve, before a lease is taken.
   * @throws NetworkConfigError, or FlannelError `BACKEND`
   */
  validate(config: NetworkConfig, external: ExternalInterface): void;

  /** What the lease in the store says of this backend (`BackendType`, `BackendData`); both empty for udp. */
  leaseAttributes(): { backendType: string; backendData?: unknown };

  /**
   * Brings the dataplane up for this node's lease. Packets flow from here on, as leases become known.
   * @throws FlannelError `HOST` or `BACKEND`
   */
  start(options: BackendOptions): Promise<RunningBackend>;
}

export interface BackendOptions {
  readonly config: NetworkConfig;
  readonly external: ExternalInterface;
  /** The address peers are told to send to; it need not be on this machine (NAT). */
  readonly publicIp: number;
  readonly lease: Lease;
  /** Those of all nodes as far as they are known: they count before the first packet. This node's own may be among them. */
  readonly leases: readonly Lease[];
  /** Identifies this network on this host (the etcd prefix): a restart finds its own device by it. */
  readonly networkId: string;
  /** Overrides the MTU of the network configuration and the one derived from the interface. */
  readonly mtuBytes?: number;
  /** Packet workers per direction. */
  readonly workers?: number;
  /** Offloads not to be used though the kernel may have them. */
  readonly disabledOffloads?: readonly OffloadName[];
  readonly sourceCheck: SourceCheck;
  readonly trustedSources: readonly Ipv4Prefix[];
  /** Keeps what packets wait in for the next process. By default nobody does. */
  readonly descriptors?: DescriptorStore;
  /** A running agent that makes room for this one. */
  readonly predecessor?: {
    /** Called when all stands ready, before the first packet is read: resolves when it may be, and nobody else reads. */
    makeRoom(): Promise<void>;
    /** Called when packets are read: resolves when the other one never will again, and rejects when it goes on. */
    running(): Promise<void>;
  };
  /** How this machine is asked what it has; by default each time anew. */
  readonly run?: RunCommand;
  readonly logger: Logger;
}

export type { SourceCheck };

export interface RunningBackend {
  /** MTU of the overlay, as written to subnet.env. */
  readonly mtuBytes: number;
  /** The overlay device (`flannel0`), where there is one. */
  readonly deviceName: string;
  /** Replaces the whole table: what is not in `leases` is gone. This node's own lease may be among them. */
  setLeases(leases: readonly Lease[]): void;
  changeLeases(changed: readonly Lease[], removed: readonly Ipv4Prefix[]): void;
  /** Counters and facts as of now; cheap enough for every scrape. */
  status(): BackendStatus;
  /** What would become of a packet, decided as the workers decide, and changing nothing. */
  readonly explain: ExplainPacket;
  /** Packets as they pass, for people who watch. */
  readonly tap: TapSource;
  /**
   * Rejects when the dataplane cannot go on (a worker failed for good); pending otherwise. The caller stops this backend
   * then, and may start another.
   */
  readonly failed: Promise<never>;
  /** What packets arrive in, for a process that is to take over; it stays this one's. */
  descriptors(): readonly StoredDescriptor[];
  /** Holds the workers between two batches. Packets wait in the kernel. */
  park(): Promise<void>;
  /** Lets held workers go on. */
  resume(): Promise<void>;
  /** Stops the workers. Device, address and routes stay for the next start. */
  stop(): Promise<void>;
}
