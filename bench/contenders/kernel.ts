/** What the kernel does by itself: a cable, routes over it, and VXLAN. */
import type { Site } from '../site.js';
import { UNDERLAY_MTU_BYTES } from '../site.js';
import { networkAddress, onBoth, POD_SUBNETS, subnetOf, type Contender } from './contender.js';

/** Outer Ethernet, IPv4, UDP and VXLAN headers around an inner Ethernet frame: RFC 7348. */
const VXLAN_OVERHEAD_BYTES = 50;

function addressesOf(site: Site): [string, string] {
  return [site.nodes[0].address, site.nodes[1].address];
}

/** Nothing between the nodes but the cable: the most that this machine can do. */
export const direct: Contender = {
  name: 'direct',
  title: 'no tunnel, eth0 to eth0',
  start: (site) => Promise.resolve({ mtuBytes: UNDERLAY_MTU_BYTES, hostAddresses: addressesOf(site), agents: [] }),
};

/** Plain routes to the pods' subnets, as flannel's host-gw backend sets them. */
export const hostGateway: Contender = {
  name: 'host-gw',
  title: 'plain routing (host-gw)',
  async start(site) {
    await onBoth(async (own, other) => {
      await site.nodes[own].namespace.addRoute(subnetOf(POD_SUBNETS[other]), `via ${site.nodes[other].address}`);
    });
    return { mtuBytes: UNDERLAY_MTU_BYTES, subnets: POD_SUBNETS, hostAddresses: addressesOf(site), agents: [] };
  },
};

/** The kernel's VXLAN, set up as flannel's vxlan backend does: VNI 1, port 8472, every neighbour written down. */
export const vxlan: Contender = {
  name: 'vxlan',
  title: 'kernel VXLAN',
  async start(site) {
    const mtuBytes = UNDERLAY_MTU_BYTES - VXLAN_OVERHEAD_BYTES;
    await onBoth(async (own) => {
      const { namespace, address } = site.nodes[own];
      await namespace.ip(
        `link add flannel.1 address ${hardwareAddress(own)} mtu ${mtuBytes} type vxlan id 1 local ${address} dev eth0 dstport 8472 nolearning`,
      );
      await namespace.addAddress('flannel.1', `${networkAddress(POD_SUBNETS[own])}/32`);
      await namespace.setUp('flannel.1');
    });
    await onBoth(async (own, other) => {
      const { namespace } = site.nodes[own];
      const [gateway, hardware] = [networkAddress(POD_SUBNETS[other]), hardwareAddress(other)];
      await namespace.ip(`neighbor replace ${gateway} lladdr ${hardware} dev flannel.1 nud permanent`);
      const entry = ['fdb', 'replace', hardware, 'dev', 'flannel.1', 'dst', site.nodes[other].address];
      await namespace.exec('bridge', entry);
      await namespace.addRoute(subnetOf(POD_SUBNETS[other]), `via ${gateway} dev flannel.1 onlink`);
    });
    const hostAddresses = [networkAddress(POD_SUBNETS[0]), networkAddress(POD_SUBNETS[1])] as const;
    return { mtuBytes, subnets: POD_SUBNETS, hostAddresses, agents: [] };
  },
};

function hardwareAddress(node: 0 | 1): string {
  return `02:00:00:00:00:0${node + 1}`;
}
