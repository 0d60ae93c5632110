import { runCommand, type RunCommand } from '../../host/command.js';
import { readFilterRuleset } from '../../host/firewall/read-ruleset.js';
import type { FilterRuleset } from '../../host/firewall/ruleset.js';
import { listInterfaces, type HostInterface } from '../../host/interfaces.js';
import {
  listPolicyRules,
  lookUpRoute,
  type PolicyRule,
  type RouteAnswer,
  type RouteQuestion,
} from '../../host/route-lookup.js';
import { deviceSysctl, filtersBridged, readReversePathFilter, readSysctl } from '../../host/sysctl.js';

/** What an explanation asks of this host. */
export interface HostView {
  route(question: RouteQuestion): Promise<RouteAnswer>;
  interfaces(): Promise<readonly HostInterface[]>;
  filterRules(): Promise<FilterRuleset>;
  policyRules(): Promise<readonly PolicyRule[]>;
  /** Whether the kernel forwards what comes in by a device. */
  forwards(device: string): Promise<boolean>;
  /** How the way back to a source is held against the device it comes in by: 0 not at all, 1 strictly, 2 loosely. */
  reversePathFilter(device: string): Promise<number>;
  /** Whether the packet filter is shown the IPv4 packets that a bridge hands on. */
  filtersBridged(bridge: string): Promise<boolean>;
}

/** This host as it is when it is first asked; only routes are asked anew. */
export class ThisHost implements HostView {
  private interfacesOnce: Promise<readonly HostInterface[]> | undefined;
  private rulesOnce: Promise<FilterRuleset> | undefined;
  private policyOnce: Promise<readonly PolicyRule[]> | undefined;

  constructor(private readonly run: RunCommand = runCommand) {}

  route(question: RouteQuestion): Promise<RouteAnswer> {
    return lookUpRoute(question, this.run);
  }

  interfaces(): Promise<readonly HostInterface[]> {
    return (this.interfacesOnce ??= listInterfaces(this.run));
  }

  filterRules(): Promise<FilterRuleset> {
    return (this.rulesOnce ??= readFilterRuleset(this.run));
  }

  policyRules(): Promise<readonly PolicyRule[]> {
    return (this.policyOnce ??= listPolicyRules(this.run));
  }

  async forwards(device: string): Promise<boolean> {
    return (await readSysctl(deviceSysctl(device, 'forwarding'))) !== '0';
  }

  reversePathFilter(device: string): Promise<number> {
    return readReversePathFilter(device);
  }

  filtersBridged(bridge: string): Promise<boolean> {
    return filtersBridged(bridge);
  }
}
