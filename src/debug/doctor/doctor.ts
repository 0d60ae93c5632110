/** All checks of a node, in the order in which they are shown: causes before what follows from them. */
import {
  checkAgent,
  checkBuffers,
  checkConfiguration,
  checkLease,
  checkOffloads,
  checkPublicIp,
} from './agent-checks.js';
import type { CheckResult, Finding } from './check.js';
import type { NodeFacts } from './facts.js';
import { checkForwardRules, checkMasquerade, checkTunnelRules } from './firewall-checks.js';
import {
  checkBridge,
  checkDevice,
  checkForwarding,
  checkLostSubnet,
  checkMtu,
  checkReversePath,
  checkRoutes,
  checkSubnetFile,
} from './host-checks.js';
import { checkPathLoss, checkPathMtu, checkPeers, checkTunnel } from './path-checks.js';
import { checkClock, checkEtcd } from './store-checks.js';

/** By their ids, which are stable. */
export const CHECKS: Readonly<Record<string, (facts: NodeFacts) => Finding>> = {
  agent: checkAgent,
  etcd: checkEtcd,
  clock: checkClock,
  lease: checkLease,
  'lost-subnet': checkLostSubnet,
  configuration: checkConfiguration,
  'public-ip': checkPublicIp,
  device: checkDevice,
  mtu: checkMtu,
  routes: checkRoutes,
  bridge: checkBridge,
  'subnet-file': checkSubnetFile,
  forwarding: checkForwarding,
  'rp-filter': checkReversePath,
  'firewall-tunnel': checkTunnelRules,
  'firewall-forward': checkForwardRules,
  masquerade: checkMasquerade,
  peers: checkPeers,
  tunnel: checkTunnel,
  'path-mtu': checkPathMtu,
  'path-loss': checkPathLoss,
  offloads: checkOffloads,
  buffers: checkBuffers,
};

/** What the facts come to. */
export function examine(facts: NodeFacts): CheckResult[] {
  return Object.entries(CHECKS).map(([id, check]) => ({ id, ...check(facts) }));
}
