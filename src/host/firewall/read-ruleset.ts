import { CommandError, runCommand, type RunCommand } from '../command.js';
import { parseIptablesRuleset } from './iptables-ruleset.js';
import { parseNftRuleset } from './nftables-ruleset.js';
import type { FilterRuleset } from './ruleset.js';

/**
 * Reads this host's IPv4 rules by both tools, each rule once.
 * @throws FlannelError `HOST` when a tool that is there may not read them
 */
export async function readFilterRuleset(run: RunCommand = runCommand): Promise<FilterRuleset> {
  const [saved, listed] = await Promise.all([
    outputOf(run, 'iptables-save', []),
    outputOf(run, 'nft', ['-j', 'list', 'ruleset']),
  ]);
  return [
    ...(saved === undefined ? [] : parseIptablesRuleset(saved)),
    ...(listed === undefined ? [] : parseNftRuleset(listed, saved !== undefined)),
  ];
}

/** `undefined` when there is no such program. */
async function outputOf(run: RunCommand, command: string, args: readonly string[]): Promise<string | undefined> {
  try {
    return (await run(command, args)).stdout;
  } catch (error) {
    if (error instanceof CommandError && error.reason === 'missing') return undefined;
    throw error;
  }
}
