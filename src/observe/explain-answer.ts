import type { PacketExplanation, PacketQuestion, TableEntry } from '../backend/explain.js';
import type { SourceCheck } from '../backend/backend.js';
import type { DryVerdict } from '../dataplane/dry-run.js';
import { dropReasonName } from '../dataplane/drop-reasons.js';
import { formatIpv4, formatPrefix, type Ipv4Prefix } from '../packet/address.js';
import type { AddressAnswer, ExplainAnswer, LeaseAnswer, VerdictAnswer } from './control-protocol.js';

/** What the agent knows beside the table. */
export interface ExplainContext {
  readonly network: Ipv4Prefix;
  readonly subnet: Ipv4Prefix;
  readonly sourceCheck: SourceCheck;
  /** This node's public address. */
  readonly publicIp: number;
  /** The lease of a node that an address lies in, the longest of several. */
  leaseOf(address: number, owner: number): LeaseAnswer | undefined;
}

/** A backend's explanation as the control socket tells it. */
export function explainAnswer(
  question: PacketQuestion,
  explanation: PacketExplanation,
  context: ExplainContext,
): ExplainAnswer {
  const { direction, senderIsMember, sourceEntry, destinationEntry, here, there } = explanation;
  const address = (of: number, entry: TableEntry): AddressAnswer => ({
    address: formatIpv4(of),
    entry: entry.kind,
    nextHop: entry.kind === 'leased' ? formatHop(entry.nextHop) : undefined,
    // Leases that the table has not taken in, such as those of another backend, decide nothing.
    lease:
      entry.kind === 'leased'
        ? context.leaseOf(of, entry.nextHop.address)
        : entry.kind === 'own-subnet'
          ? context.leaseOf(of, context.publicIp)
          : undefined,
  });
  return {
    direction,
    network: formatPrefix(context.network),
    subnet: formatPrefix(context.subnet),
    sourceCheck: context.sourceCheck,
    source: address(question.source, sourceEntry),
    destination: address(question.destination, destinationEntry),
    senderIsMember,
    here: verdictAnswer(here),
    there: there && verdictAnswer(there),
  };
}

function verdictAnswer(outcome: DryVerdict): VerdictAnswer {
  switch (outcome.verdict) {
    case 'forwarded':
      return { verdict: 'forwarded', nextHop: formatHop(outcome.nextHop) };
    case 'delivered':
      return { verdict: 'delivered' };
    case 'dropped':
      return { verdict: 'dropped', reason: dropReasonName(outcome.reason) };
  }
}

function formatHop({ address, port }: { readonly address: number; readonly port: number }): string {
  return `${formatIpv4(address)}:${port}`;
}
