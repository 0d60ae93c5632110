import { NetworkConfigError } from '../errors.js';
import type { Logger } from '../log.js';
import { formatNetworkConfig, type NetworkConfig } from '../subnet/network-config.js';
import type { SubnetManager } from '../subnet/subnet-manager.js';
import type { AgentState } from './agent-state.js';

export interface ConfigWatchOptions {
  readonly manager: Pick<SubnetManager, 'watchNetworkConfig'>;
  readonly state: AgentState;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

/**
 * Says when the network configuration in the store is no longer the one that this agent runs with. It goes on with its
 * own: a change of it moves every pod of the cluster, and when that is to happen is the operator's to choose.
 */
export function watchConfigChanges({ manager, state, logger, signal }: ConfigWatchOptions): Promise<void> {
  let said: string | undefined;
  return manager.watchNetworkConfig((stored) => {
    const concern = state.config === undefined ? undefined : concernAbout(state.config, stored);
    if (concern === undefined) {
      if (said !== undefined) logger.info('the network configuration in the store is what this agent runs with again');
      state.clearConcern('configuration');
    } else {
      if (said !== concern.message) logger.warn(`${concern.message}; ${concern.remedy}`);
      state.raiseConcern('configuration', concern.message, concern.remedy);
    }
    said = concern?.message;
  }, signal);
}

function concernAbout(
  running: NetworkConfig,
  stored: NetworkConfig | NetworkConfigError,
): { readonly message: string; readonly remedy: string } | undefined {
  if (stored instanceof NetworkConfigError) {
    return {
      message: stored.message,
      remedy: 'this agent goes on with the configuration that it has, but none can start: put it back',
    };
  }
  const names = differences(running, stored);
  if (names.length === 0) return undefined;
  return {
    message: `the network configuration in the store differs from what this agent runs with in ${names.join(', ')}`,
    remedy: 'restart flanneld on every node to use it, or put the old one back: nodes that start meanwhile run with it',
  };
}

/** The keys, as an operator writes them, in which two configurations differ. */
function differences(one: NetworkConfig, other: NetworkConfig): string[] {
  const [before, after] = [one, other].map(
    (config) => JSON.parse(formatNetworkConfig(config)) as Record<string, unknown>,
  );
  const names = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...names].filter((name) => JSON.stringify(before[name]) !== JSON.stringify(after[name]));
}
