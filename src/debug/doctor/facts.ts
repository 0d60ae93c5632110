/** All that the checks of a node stand on. Gathered by `gather.ts`; a test writes them by hand. */
import type { FilterRuleset } from '../../host/firewall/ruleset.js';
import type { HostInterface } from '../../host/interfaces.js';
import type { PolicyRule } from '../../host/route-lookup.js';
import type { QueueDrops } from '../../host/queue-drops.js';
import type { Route } from '../../host/routes.js';
import type { LeaseAnswer, StatusAnswer } from '../../observe/control-protocol.js';
import type { SubnetEnv } from '../../subnet/subnet-env.js';
import type { Fact } from './check.js';
import type { PeerFacts } from './probe-peers.js';
import type { StoreFacts } from './probe-store.js';

export interface NodeFacts {
  /** Since the epoch. */
  readonly nowMs: number;
  readonly status: Fact<StatusAnswer>;
  readonly leases: Fact<readonly LeaseAnswer[]>;
  readonly interfaces: Fact<readonly HostInterface[]>;
  readonly routes: Fact<readonly Route[]>;
  readonly policyRules: Fact<readonly PolicyRule[]>;
  readonly filterRules: Fact<FilterRuleset>;
  readonly subnetFile: Fact<Partial<SubnetEnv>>;
  /** `net.ipv4.ip_forward`. */
  readonly forwarding: Fact<boolean>;
  /** Reverse path filtering by device: 0, 1 (strict) or 2 (loose). */
  readonly reversePathFilters: Fact<ReadonlyMap<string, number>>;
  readonly queues: Fact<QueueFacts>;
  readonly peers: Fact<readonly PeerFacts[]>;
  readonly store: Fact<StoreFacts>;
}

/** Packets lost for want of room in a queue, since it was made. */
export interface QueueFacts extends QueueDrops {
  /** How many of both came while the doctor looked. */
  readonly dropsWhileLooking: number;
}
