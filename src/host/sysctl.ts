import { readFile } from 'node:fs/promises';
import { errorMessage, FlannelError } from '../errors.js';

/** `net.ipv4.ip_forward` → `/proc/sys/net/ipv4/ip_forward`. In a device's name, `/` stands for a dot, as in sysctl(8). */
function sysctlPath(key: string): string {
  return `/proc/sys/${key.replace(/[./]/g, (separator) => (separator === '.' ? '/' : '.'))}`;
}

/** The name of a device's own IPv4 setting. In it, a slash stands for a dot of the device's name (sysctl(8)). */
export function deviceSysctl(device: string, setting: string): string {
  return `net.ipv4.conf.${device.replaceAll('.', '/')}.${setting}`;
}

/**
 * How the way back to a source is held against the device that a packet comes in by: 0 not at all, 1 strictly, 2 loosely.
 * The larger of the device's setting and that of all counts (Documentation/networking/ip-sysctl).
 * @throws FlannelError `HOST`
 */
export async function readReversePathFilter(device: string): Promise<number> {
  const values = await Promise.all(['all', device].map((name) => readSysctl(deviceSysctl(name, 'rp_filter'))));
  return Math.max(...values.map((value) => Number(value ?? 0)));
}

/**
 * Whether netfilter's IPv4 hooks see what a bridge hands on: by the setting for all bridges, which is there with the module
 * br_netfilter only, or by the bridge's own (`ip link set BRIDGE type bridge nf_call_iptables 1`).
 * @throws FlannelError `HOST`
 */
export async function filtersBridged(bridge: string): Promise<boolean> {
  const all = await readSysctl('net.bridge.bridge-nf-call-iptables');
  if (all !== '0') return all !== undefined;
  return (
    (await readSetting(`/sys/class/net/${bridge}/bridge/nf_call_iptables`, `nf_call_iptables of ${bridge}`)) === '1'
  );
}

/** Reads a kernel setting; `undefined` when this kernel (or its loaded modules) has none of that name. @throws FlannelError `HOST` */
export function readSysctl(key: string): Promise<string | undefined> {
  return readSetting(sysctlPath(key), key);
}

async function readSetting(path: string, name: string): Promise<string | undefined> {
  try {
    return (await readFile(path, 'utf8')).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new FlannelError('HOST', `cannot read the kernel setting ${name}: ${errorMessage(error)}`, { cause: error });
  }
}

/**
 * What to tell an operator whose kernel does not forward, or `undefined`. Like flannel, the agent leaves the setting
 * alone: Docker and the CNI plugins switch it on, and whether a machine is a router is not for an agent to decide.
 */
export async function forwardingWarning(): Promise<string | undefined> {
  if ((await readSysctl('net.ipv4.ip_forward')) !== '0') return undefined;
  return 'this machine does not forward IPv4, so pods reach no other node: run `sysctl -w net.ipv4.ip_forward=1`';
}
