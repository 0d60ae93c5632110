/** Builds a lab's cables: the underlay, the machines on it, and later each node's bridge with its pods. */
import { mkdir, readdir, rm, rmdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Namespace } from './namespace.js';
import { hostsFile, isNamespaceOf, type LabPlan, type NodePlan, type PlacePlan } from './plan.js';
import { labFolder } from './state.js';

const UNDERLAY_BRIDGE = 'br0';
const NETNS_CONFIG = '/etc/netns';
const NAMED_NAMESPACES = '/run/netns';

/** Makes the underlay's bridge and, one cable each, the machines on it. Pods come later. */
export async function buildUnderlay(plan: LabPlan): Promise<void> {
  await nameResolution(plan);
  const underlay = await Namespace.create(plan.underlay.namespace);
  await underlay.addBridge(UNDERLAY_BRIDGE);
  const plug = async (place: PlacePlan): Promise<Namespace> => {
    const machine = await Namespace.create(place.namespace);
    await machine.connect('eth0', underlay, place.name);
    await underlay.joinBridge(place.name, UNDERLAY_BRIDGE);
    await machine.addAddress('eth0', `${place.address}/${plan.underlay.cidr.split('/')[1]}`);
    return machine;
  };
  const outside = await plug(plan.outside);
  // The world's address; it knows the way to the underlay, and none to the pods.
  await outside.addAddress('lo', `${plan.outside.world}/32`);
  await plug(plan.etcd);
  await Promise.all(
    plan.nodes.map(async (node) => {
      const machine = await plug(node);
      await machine.addRoute('default', `via ${plan.outside.address}`);
      await machine.setSysctl('net.ipv4.ip_forward', 1);
    }),
  );
}

/** Makes a node's bridge as a CNI plugin would, with the pods on it. `mtuBytes` is what flanneld wrote. */
export async function addPods(plan: LabPlan, node: NodePlan, mtuBytes: number): Promise<void> {
  const machine = Namespace.attach(node.namespace);
  await machine.addBridge(plan.bridge);
  await machine.setMtu(plan.bridge, mtuBytes);
  await machine.addAddress(plan.bridge, `${node.gateway}/${plan.subnetLength}`);
  for (const pod of node.pods) {
    if (pod.namespace === null) continue;
    const place = await Namespace.create(pod.namespace);
    const port = `veth-${pod.name}`;
    await place.connect('eth0', machine, port, { mtuBytes });
    await machine.joinBridge(port, plan.bridge);
    await place.addAddress('eth0', `${pod.address}/${plan.subnetLength}`);
    await place.addRoute('default', `via ${node.gateway}`);
  }
}

/** Namespaces of this machine that belong to the lab, whoever made them. */
export async function namespacesOf(lab: string): Promise<Namespace[]> {
  const names = await readdir(NAMED_NAMESPACES).catch(() => []);
  return names.filter((name) => isNamespaceOf(lab, name)).map((name) => Namespace.attach(name));
}

/**
 * Lets the lab's names resolve inside it: `ip netns exec NAME` shows the files of /etc/netns/NAME over those of /etc
 * (ip-netns(8)). All namespaces share one folder, with a hosts file and a resolv.conf that asks nobody.
 */
async function nameResolution(plan: LabPlan): Promise<void> {
  const folder = join(labFolder(plan.name), 'etc');
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'hosts'), hostsFile(plan));
  await writeFile(join(folder, 'resolv.conf'), '# a lab has no name servers; its names are in /etc/hosts\n');
  await mkdir(NETNS_CONFIG, { recursive: true });
  const pods = plan.nodes.flatMap((node) => node.pods.map((pod) => pod.namespace));
  for (const namespace of [
    plan.underlay.namespace,
    ...[plan.etcd, plan.outside, ...plan.nodes].map((place) => place.namespace),
    ...pods.filter((name) => name !== null),
  ]) {
    await rm(join(NETNS_CONFIG, namespace), { recursive: true, force: true });
    await symlink(folder, join(NETNS_CONFIG, namespace));
  }
}

/** Takes away what {@link buildUnderlay} left in /etc/netns. */
export async function removeNameResolution(lab: string): Promise<void> {
  const names = await readdir(NETNS_CONFIG).catch(() => []);
  for (const name of names) {
    if (isNamespaceOf(lab, name)) await rm(join(NETNS_CONFIG, name), { recursive: true, force: true });
  }
  // Only when it is empty: others may keep files there.
  await rmdir(NETNS_CONFIG).catch(() => undefined);
}
