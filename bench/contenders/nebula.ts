/** nebula, with certificates made for the run by the nebula-cert that lies beside it. */
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { FlannelError } from '../../src/errors.js';
import { runCommand } from '../../src/host/command.js';
import { findProgram } from '../../src/lab/requirements.js';
import { until } from '../../test/harness/until.js';
import { UNDERLAY_MTU_BYTES } from '../site.js';
import { onBoth, POD_SUBNETS, subnetOf, type Contender } from './contender.js';

/** Outer IPv4 and UDP headers, nebula's header and its tag. */
const OVERHEAD_BYTES = 60;
const PORT = 4242;
/** A firewall rule; without `local_cidr` it would hold for the node's own address only, not for its pods. */
const ANYTHING = { port: 'any', proto: 'any', host: 'any', local_cidr: '0.0.0.0/0' };
const HOST_ADDRESSES = ['10.6.0.1', '10.6.0.2'] as const;

export function nebula(program: string): Contender {
  return {
    name: 'nebula',
    title: 'nebula (encrypts)',
    async start(site) {
      const mtuBytes = UNDERLAY_MTU_BYTES - OVERHEAD_BYTES;
      const authority = site.nodes[0].folder;
      const sign = await certificateAuthority(program, authority);
      const agents: number[] = [];
      await onBoth(async (own, other) => {
        const { name, folder, namespace } = site.nodes[own];
        await sign(name, folder, HOST_ADDRESSES[own], subnetOf(POD_SUBNETS[own]));
        const config = {
          pki: { ca: join(authority, 'ca.crt'), cert: join(folder, 'host.crt'), key: join(folder, 'host.key') },
          static_host_map: { [HOST_ADDRESSES[other]]: [`${site.nodes[other].address}:${PORT}`] },
          lighthouse: { am_lighthouse: false, hosts: [] },
          listen: { host: '0.0.0.0', port: PORT },
          tun: {
            dev: 'nebula1',
            mtu: mtuBytes,
            unsafe_routes: [{ route: subnetOf(POD_SUBNETS[other]), via: HOST_ADDRESSES[other], mtu: mtuBytes }],
          },
          logging: { level: 'error' },
          firewall: { outbound: [ANYTHING], inbound: [ANYTHING] },
        };
        // JSON is YAML as well.
        const file = join(folder, 'nebula.yml');
        await writeFile(file, JSON.stringify(config));
        const child = namespace.spawn('setpriv', ['--pdeathsig', 'KILL', program, '-config', file], {
          stdio: ['ignore', 'pipe', 'pipe'],
        });
        let said = '';
        for (const stream of [child.stdout, child.stderr]) {
          stream?.on('data', (chunk: Buffer) => (said = chunk.toString().trim()));
        }
        await until(`${program} makes its device`, async () => {
          if (child.exitCode !== null) throw new FlannelError('LAB', `${program} ended: ${said}`);
          return (await namespace.ip('-br link')).includes('nebula1');
        });
        if (child.pid !== undefined) agents.push(child.pid);
      });
      return { mtuBytes, subnets: POD_SUBNETS, hostAddresses: HOST_ADDRESSES, agents };
    },
  };
}

type Sign = (name: string, folder: string, address: string, subnet: string) => Promise<void>;

/** Makes an authority in `folder`; what it returns signs a node's certificate and puts it into the node's folder. */
async function certificateAuthority(program: string, folder: string): Promise<Sign> {
  const nebulaCert = findProgram('nebula-cert', [dirname(program)]);
  if (nebulaCert === undefined) {
    throw new FlannelError('LAB', `there is no nebula-cert beside ${program}, nor in PATH`);
  }
  const files = ['-out-crt', join(folder, 'ca.crt'), '-out-key', join(folder, 'ca.key')];
  await runCommand(nebulaCert, ['ca', '-name', 'bench', ...files]);
  return async (name, own, address, subnet) => {
    await runCommand(nebulaCert, [
      ...['sign', '-ca-crt', join(folder, 'ca.crt'), '-ca-key', join(folder, 'ca.key'), '-name', name],
      ...['-ip', `${address}/24`, '-subnets', subnet],
      ...['-out-crt', join(own, 'host.crt'), '-out-key', join(own, 'host.key')],
    ]);
  };
}
