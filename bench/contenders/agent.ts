/** Agents that lease their subnets from etcd: this project's, on each rung of its ladder, and flannel's own. */
import { join } from 'node:path';
import { FlannelError } from '../../src/errors.js';
import type { Namespace } from '../../src/lab/namespace.js';
import { Daemon, FLANNELCTL, FLANNELD } from '../../test/harness/daemon.js';
import { until } from '../../test/harness/until.js';
import type { Store, PodSubnet } from '../site.js';
import { networkAddress, type Contender } from './contender.js';

/** The agents' own subnets come after those of far nodes. */
const NETWORK = { Network: '10.5.0.0/16', SubnetMin: '10.5.251.0', SubnetMax: '10.5.254.0' };

/** Which agent, and how it is started. */
export interface AgentOptions {
  readonly name: string;
  readonly title: string;
  /** Default: this checkout's. */
  readonly program?: string;
  /** Beside those for etcd, the interface and files. */
  readonly flags?: readonly string[];
  /** Whether the program, another than this checkout's, is this project's as well, with a control socket. */
  readonly own?: boolean;
  /** A trace of one packet in so many is attached to each node's agent, which has to be this checkout's. */
  readonly tracedEvery?: number;
}

/** This checkout's agent while somebody watches one packet in so many on both nodes. */
export function tracedAgent(every: number): AgentOptions {
  return { name: 'flannelette-traced', title: `flannelette, traced 1/${every}`, tracedEvery: every };
}

/**
 * An agent on both nodes, in a network of its own. It writes no firewall rules, since the other contenders have none
 * either.
 */
export function agentContender(store: () => Promise<Store>, options: AgentOptions): Contender {
  const { name, title, program = FLANNELD, flags = [], own = false, tracedEvery } = options;
  const ours = own || program === FLANNELD;
  return {
    name,
    title,
    async start(site) {
      const shared = await store();
      const prefix = `/bench/${name}`;
      await shared.etcd.put(`${prefix}/config`, JSON.stringify({ ...NETWORK, Backend: { Type: 'udp' } }));
      const daemons: Daemon[] = [];
      // One after the other: flannel's own gives up when both take the same subnet.
      for (const { namespace, folder } of site.nodes) {
        await shared.connect(namespace);
        const all = [
          `--etcd-endpoints=${shared.endpoint}`,
          `--etcd-prefix=${prefix}`,
          '--iface=eth0',
          '--iptables-forward-rules=false',
          ...(own ? [`--control-socket=${join(folder, 'flanneld.sock')}`] : []),
          ...flags,
        ];
        daemons.push(await new Daemon(namespace, folder, all, { program }).ready());
      }
      if (tracedEvery !== undefined) {
        await Promise.all(daemons.map((daemon, index) => traceInto(site.nodes[index].namespace, daemon, tracedEvery)));
      }
      const [first, second] = daemons.map(({ subnetEnv }) => leasedSubnet(subnetEnv));
      return {
        mtuBytes: Number(daemons[0].subnetEnv.FLANNEL_MTU),
        subnets: [first, second],
        hostAddresses: [networkAddress(first), networkAddress(second)],
        agents: daemons.map(({ pid }) => pid),
        offloads: ours ? async () => (await daemons[0].status()).backend?.offloads ?? [] : undefined,
        addNodes: async (nodes) => {
          for (const { subnet, address } of nodes) {
            const key = `${prefix}/subnets/${subnet.replace('/', '-')}`;
            await shared.etcd.put(key, JSON.stringify({ PublicIP: address, PublicIPv6: null }));
          }
        },
      };
    },
  };
}

/** Watches an agent's packets, and throws away what it is shown, for as long as the namespace lives. */
async function traceInto(namespace: Namespace, { controlSocket }: Daemon, every: number): Promise<void> {
  const trace = [FLANNELCTL, 'trace', '--sample', `1/${every}`, '--socket', controlSocket];
  const child = namespace.spawn('setpriv', ['--pdeathsig', 'KILL', ...trace], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  await until('flannelctl trace watches', () => {
    if (child.exitCode !== null) throw new FlannelError('LAB', `flannelctl trace ended: ${said.trim()}`);
    return said.includes('watching');
  });
}

function leasedSubnet({ FLANNEL_SUBNET: subnet = '' }: Readonly<Record<string, string>>): PodSubnet {
  const [gateway, length] = subnet.split('/');
  if (length === undefined) throw new FlannelError('LAB', 'an agent wrote a subnet file without FLANNEL_SUBNET');
  return { gateway, prefixLength: Number(length) };
}
