import { pause, type Clock } from '../clock.js';
import { FlannelError } from '../errors.js';
import type { ExternalInterface } from '../host/external-interface.js';
import type { Logger } from '../log.js';
import type { ServiceNotifier } from '../observe/sd-notify.js';
import { formatIpv4 } from '../packet/address.js';
import type { AgentState } from './agent-state.js';
import type { NodeHost } from './node-host.js';

/** How often the address that the tunnel is bound to is looked for; oftener while it is gone. */
const CHECK_MS = 5000;
const CHECK_WHILE_GONE_MS = 1000;

export interface AddressWatchOptions {
  readonly external: ExternalInterface;
  readonly host: Pick<NodeHost, 'hasAddress' | 'chooseInterface'>;
  readonly state: AgentState;
  readonly notifier: ServiceNotifier | undefined;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/**
 * Waits until this host no longer has the address that the tunnel is bound to, and has another in its place: answers
 * that change in words. While the address is gone the agent is unready. An address that is still there is never left,
 * whatever else the host is given.
 * @throws the signal's reason when it aborts
 */
export async function untilAddressMoves(options: AddressWatchOptions): Promise<string> {
  const { external, host, state, notifier, logger, clock, signal } = options;
  const address = formatIpv4(external.address);
  let candidate: ExternalInterface | undefined;
  for (;;) {
    await pause(clock, state.isUnready('interface') ? CHECK_WHILE_GONE_MS : CHECK_MS, signal);
    signal.throwIfAborted();
    if (await host.hasAddress(external.address)) {
      if (state.isUnready('interface')) logger.info(`${external.name} has its address ${address} again`);
      state.setUnready('interface', undefined);
      notifier?.status(state.summary());
      continue;
    }
    const reason = `${external.name} has lost its address ${address}: other nodes and this one do not reach each other`;
    if (!state.isUnready('interface')) logger.error(reason);
    state.setUnready('interface', reason);
    notifier?.status(state.summary());
    const next = await chooseAnother(host);
    // Seen twice, so that an address on its way from one interface to another is not followed half way.
    if (next !== undefined && next.name === candidate?.name && next.address === candidate.address) {
      return `the address of this node went from ${address} (${external.name}) to ${formatIpv4(next.address)} (${next.name})`;
    }
    candidate = next;
  }
}

async function chooseAnother(host: Pick<NodeHost, 'chooseInterface'>): Promise<ExternalInterface | undefined> {
  try {
    return await host.chooseInterface();
  } catch (error) {
    if (error instanceof FlannelError) return undefined;
    throw error;
  }
}
