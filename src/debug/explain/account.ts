import {
  filterAt,
  type FilterPacket,
  type FilterRuleset,
  type FilterTouch,
  type Hook,
} from '../../host/firewall/ruleset.js';
import type { RouteAnswer, RouteQuestion } from '../../host/route-lookup.js';
import { formatIpv4 } from '../../packet/address.js';
import type { HostView } from './host-view.js';
import type { ExplainStep, HostDropReason } from './packet-spec.js';
import { explainRefusal } from './refusal.js';

/** A packet's end, reached while its way is walked. */
export class Dropped extends Error {
  constructor(readonly reason: string) {
    super(reason);
  }
}

/** Takes down the steps of a packet's way. */
export class Account {
  readonly steps: ExplainStep[] = [];

  pass(step: string, fact: string): void {
    this.steps.push({ step, outcome: 'pass', fact });
  }

  unsure(step: string, fact: string): void {
    this.steps.push({ step, outcome: 'unsure', fact });
  }

  /** Ends the way. */
  drop(step: string, reason: string, fact: string): never {
    this.steps.push({ step, outcome: 'drop', fact });
    throw new Dropped(reason);
  }

  /** Notes the route that the kernel takes, or ends the way where it has none. */
  async route(host: HostView, question: RouteQuestion): Promise<Exclude<RouteAnswer, { kind: 'refused' }>> {
    const answer = await host.route(question);
    if (answer.kind === 'refused') {
      const { reason, fact } = await explainRefusal(host, question, answer);
      return this.drop('route', reason, fact);
    }
    const by = answer.gateway === undefined ? '' : ` by the gateway ${formatIpv4(answer.gateway)}`;
    const to = formatIpv4(question.destination);
    this.pass(
      'route',
      answer.kind === 'local'
        ? `${to} is one of this host's own addresses`
        : `the route to ${to} leads into ${answer.device}${by}`,
    );
    return answer;
  }

  /**
   * Takes the packet through the filter's chains at some hooks.
   * @returns what its source address is turned into, if it is: the rule that does so
   */
  filter(
    rules: FilterRuleset,
    hooks: readonly Hook[],
    packet: FilterPacket,
    what: string,
    reason: string = 'firewall' satisfies HostDropReason,
  ): FilterTouch | undefined {
    let translation: FilterTouch | undefined;
    let touched = false;
    for (const hook of hooks) {
      const { verdict, touches } = filterAt(rules, hook, packet);
      const decisive = touches.findLast(({ does }) => does === 'drop' || does === 'reject');
      if (verdict === 'drop') {
        this.drop('firewall', reason, `${hook}: ${what} is dropped by ${describeTouch(decisive)}`);
      }
      for (const touch of touches) {
        touched = true;
        const text = `${hook}: ${what} ${DOES[touch.does]} ${describeTouch(touch)}`;
        if (touch.certain) this.pass('firewall', text);
        else this.unsure('firewall', `${text}, if its conditions hold`);
        if (touch.certain && (touch.does === 'masquerade' || touch.does === 'snat')) translation ??= touch;
      }
    }
    if (!touched) this.pass('firewall', `no rule at ${hooks.join(', ')} touches ${what}`);
    return translation;
  }
}

const DOES: Readonly<Record<FilterTouch['does'], string>> = {
  accept: 'is accepted by',
  drop: 'is dropped by',
  reject: 'is rejected by',
  masquerade: 'is masqueraded by',
  snat: 'gets another source by',
  dnat: 'gets another destination by',
};

function describeTouch(touch: FilterTouch | undefined): string {
  return touch === undefined ? 'a rule' : `\`${touch.rule}\` in ${touch.chain}`;
}
