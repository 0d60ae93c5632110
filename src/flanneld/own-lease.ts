import { FlannelError, type ErrorCode } from '../errors.js';
import type { Logger } from '../log.js';
import type { ServiceNotifier } from '../observe/sd-notify.js';
import { formatIpv4, formatPrefix } from '../packet/address.js';
import type { Lease } from '../subnet/lease.js';
import type { NetworkConfig } from '../subnet/network-config.js';
import type { LeaseRequest, SubnetManager } from '../subnet/subnet-manager.js';
import type { AgentState } from './agent-state.js';
import type { FlanneldOptions } from './flags.js';
import type { KnownLeases } from './known-leases.js';
import { ReasonReporter } from '../reason-reporter.js';
import { persist } from './persistence.js';

export interface OwnLeaseOptions {
  readonly options: Pick<FlanneldOptions, 'renewMarginSeconds'>;
  readonly logger: Logger;
  readonly manager: SubnetManager;
  readonly leases: KnownLeases;
  readonly state: AgentState;
  readonly notifier: ServiceNotifier | undefined;
  readonly config: NetworkConfig;
  /** What the lease was asked for with. */
  readonly request: LeaseRequest;
  readonly lease: Lease;
  /** The errors after which taking a lost subnet back is tried again. */
  readonly transient: ReadonlySet<ErrorCode>;
  readonly signal: AbortSignal;
}

/**
 * Keeps this node's lease until the signal aborts. A subnet that another node has taken is not fought over: packets go
 * on, since the pods here still have its addresses, the agent is unready and says why, and the same subnet is taken
 * back as soon as nobody holds it any more.
 */
export async function keepOwnLease(own: OwnLeaseOptions): Promise<void> {
  const { manager, state, notifier, logger, signal } = own;
  const reasons = new ReasonReporter((reason) => logger.warn(reason));
  let lease = own.lease;
  while (!signal.aborted) {
    const name = formatPrefix(lease.subnet);
    await manager.keepLease(
      lease,
      own.options.renewMarginSeconds,
      {
        renewed(renewed) {
          state.lease = renewed;
          setTrouble(own, undefined);
          reasons.clear();
          logger.debug('lease renewed', leaseFields(renewed));
        },
        trouble(reason) {
          setTrouble(own, reason);
          reasons.report(`the lease could not be renewed: ${reason}`);
        },
        lost(reason) {
          state.unready = `subnet ${name} is lost: ${reason}`;
          notifier?.status(state.summary());
          logger.error(
            `${state.unready}; packets still flow, and it is taken back when it is free again; ` +
              'pods of two nodes may share addresses until then',
          );
        },
      },
      signal,
    );
    if (signal.aborted) return;
    lease = await takeBack(own, lease);
  }
}

async function takeBack(own: OwnLeaseOptions, lost: Lease): Promise<Lease> {
  const { manager, leases, state, logger, signal, transient } = own;
  const reasons = new ReasonReporter((reason) => logger.error(reason));
  const request = { ...own.request, previousSubnet: lost.subnet, onlyPrevious: true };
  const lease = await persist(
    async () => {
      // The watch tells who has it; the store is not asked in vain.
      const holder = leases.inTheWay(lost.subnet, request.publicIp);
      if (holder === undefined) return manager.acquireLease(own.config, request, signal);
      const owner = formatIpv4(holder.publicIp);
      throw new FlannelError('LEASE', `${owner} holds the lease of ${formatPrefix(holder.subnet)}`);
    },
    {
      signal,
      transient,
      onFailure: (error) => reasons.report(`subnet ${formatPrefix(lost.subnet)} is not back yet: ${error.message}`),
    },
  );
  state.lease = lease;
  state.unready = undefined;
  setTrouble(own, undefined);
  logger.info('lease taken back', leaseFields(lease));
  return lease;
}

/** What troubles the agent without making it unready. */
function setTrouble({ state, notifier }: OwnLeaseOptions, reason: string | undefined): void {
  if (state.phase !== 'ready') return;
  state.reason = reason;
  notifier?.status(state.summary());
}

/** A lease for the log. */
export function leaseFields(lease: Lease): { subnet: string; expires: string } {
  const expires = lease.reserved
    ? 'never (reserved)'
    : lease.expiresAtMs === undefined
      ? 'unknown'
      : new Date(lease.expiresAtMs).toISOString();
  return { subnet: formatPrefix(lease.subnet), expires };
}
