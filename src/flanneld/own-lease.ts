import type { Logger } from '../log.js';
import type { ServiceNotifier } from '../observe/sd-notify.js';
import { formatIpv4, formatPrefix } from '../packet/address.js';
import { ReasonReporter } from '../reason-reporter.js';
import type { Lease } from '../subnet/lease.js';
import type { SubnetManager } from '../subnet/subnet-manager.js';
import type { AgentState } from './agent-state.js';
import type { FlanneldOptions } from './flags.js';

export interface OwnLeaseOptions {
  readonly options: Pick<FlanneldOptions, 'renewMarginSeconds'>;
  readonly logger: Logger;
  readonly manager: SubnetManager;
  readonly state: AgentState;
  readonly notifier: ServiceNotifier | undefined;
  readonly lease: Lease;
  readonly signal: AbortSignal;
}

/**
 * Keeps this node's lease until another node is found to have the subnet: answers that in words. While
 * it has run out by this host's clock and nobody can be asked, the agent is unready and packets go on: an outage of the
 * store and a partition look alike from here, and in an outage every node would be right to go on.
 * @throws the signal's reason when it aborts
 */
export async function keepOwnLease(own: OwnLeaseOptions): Promise<string> {
  const { manager, state, notifier, logger, signal } = own;
  const reasons = new ReasonReporter((reason) => logger.warn(reason));
  const name = formatPrefix(own.lease.subnet);
  let lostReason: string | undefined;
  await manager.keepLease(
    own.lease,
    own.options.renewMarginSeconds,
    {
      renewed(renewed) {
        state.lease = renewed;
        if (state.isUnready('lease')) logger.info(`the lease of ${name} is this node's again`);
        state.setUnready('lease', undefined);
        setTrouble(own, undefined);
        reasons.clear();
        logger.debug('lease renewed', leaseFields(renewed));
      },
      trouble(reason) {
        setTrouble(own, reason);
        reasons.report(`the lease could not be renewed: ${reason}`);
      },
      missing(reason) {
        const told = `the lease of ${name} is gone from the store, and cannot be written there: ${reason}`;
        state.setUnready('lease', told);
        notifier?.status(state.summary());
        reasons.report(`${told}; until it is, other nodes send no packets here`);
      },
      expired() {
        const reason = `the lease of ${name} has run out by this node's clock, and the store does not answer`;
        state.setUnready('lease', reason);
        notifier?.status(state.summary());
        logger.error(`${reason}: packets still flow, until the store shows that another node has the subnet`);
      },
      addressShared(reason) {
        state.raiseConcern('public-ip', reason, SHARED_ADDRESS_REMEDY);
        notifier?.status(state.summary());
        logger.error(`${reason}; ${SHARED_ADDRESS_REMEDY}`);
      },
      lost(reason) {
        lostReason = reason;
      },
    },
    signal,
  );
  if (lostReason === undefined) throw signal.reason;
  return `subnet ${name} is lost: ${lostReason}`;
}

const SHARED_ADDRESS_REMEDY =
  'the packets of one of the two go to the other: give each an address, or a --public-ip, of its own and restart both';

/** What troubles the agent without making it unready. */
function setTrouble({ state, notifier }: OwnLeaseOptions, reason: string | undefined): void {
  if (state.phase !== 'ready') return;
  state.reason = reason;
  notifier?.status(state.summary());
}

/** A lease for the log. */
export function leaseFields(lease: Lease): { subnet: string; publicIP: string; expires: string } {
  const expires = lease.reserved
    ? 'never (reserved)'
    : lease.expiresAtMs === undefined
      ? 'unknown'
      : new Date(lease.expiresAtMs).toISOString();
  return { subnet: formatPrefix(lease.subnet), publicIP: formatIpv4(lease.publicIp), expires };
}
