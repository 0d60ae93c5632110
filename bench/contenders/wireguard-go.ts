/** wireguard-go, configured over its own socket (https://www.wireguard.com/xplatform/), so that no `wg` is needed. */
import { generateKeyPairSync, type JsonWebKey } from 'node:crypto';
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { FlannelError } from '../../src/errors.js';
import { until } from '../../test/harness/until.js';
import { UNDERLAY_MTU_BYTES } from '../site.js';
import { networkAddress, onBoth, POD_SUBNETS, subnetOf, type Contender } from './contender.js';

/** Outer IPv4 and UDP headers, WireGuard's header and its tag. */
const OVERHEAD_BYTES = 60;
const PORT = 51820;

interface KeyPair {
  readonly privateHex: string;
  readonly publicHex: string;
}

export function wireguardGo(program: string): Contender {
  return {
    name: 'wireguard-go',
    title: 'wireguard-go (encrypts)',
    async start(site) {
      const mtuBytes = UNDERLAY_MTU_BYTES - OVERHEAD_BYTES;
      const keys = [newKeyPair(), newKeyPair()];
      const agents: number[] = [];
      await onBoth(async (own, other) => {
        const { namespace } = site.nodes[own];
        // The sockets of all interfaces lie in one folder of the machine, so their names must differ.
        const device = `wgb${process.pid}${'ab'[own]}`;
        const socket = `/var/run/wireguard/${device}.sock`;
        const child = namespace.spawn('setpriv', ['--pdeathsig', 'KILL', program, '--foreground', device], {
          environment: { LOG_LEVEL: 'error' },
          stdio: 'ignore',
        });
        await until(`wireguard-go listens on ${socket}`, () => {
          if (child.exitCode !== null) throw new FlannelError('LAB', `${program} ended with status ${child.exitCode}`);
          return existsSync(socket);
        });
        if (child.pid !== undefined) agents.push(child.pid);
        await configure(socket, [
          `private_key=${keys[own].privateHex}`,
          `listen_port=${PORT}`,
          `public_key=${keys[other].publicHex}`,
          `endpoint=${site.nodes[other].address}:${PORT}`,
          `allowed_ip=${subnetOf(POD_SUBNETS[other])}`,
        ]);
        await namespace.setMtu(device, mtuBytes);
        await namespace.addAddress(device, `${networkAddress(POD_SUBNETS[own])}/32`);
        await namespace.setUp(device);
        await namespace.addRoute(subnetOf(POD_SUBNETS[other]), `dev ${device}`);
      });
      const hostAddresses = [networkAddress(POD_SUBNETS[0]), networkAddress(POD_SUBNETS[1])] as const;
      return { mtuBytes, subnets: POD_SUBNETS, hostAddresses, agents };
    },
  };
}

function newKeyPair(): KeyPair {
  const { privateKey } = generateKeyPairSync('x25519');
  const { d = '', x = '' }: JsonWebKey = privateKey.export({ format: 'jwk' });
  const hex = (base64: string): string => Buffer.from(base64, 'base64url').toString('hex');
  return { privateHex: hex(d), publicHex: hex(x) };
}

function configure(socket: string, lines: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const connection = connect(socket);
    let answer = '';
    connection.on('error', reject);
    connection.on('data', (chunk: Buffer) => {
      answer += chunk.toString();
      if (!answer.endsWith('\n\n')) return;
      connection.destroy();
      const error = /^errno=(-?\d+)$/m.exec(answer)?.[1];
      if (error === '0') resolve();
      else reject(new FlannelError('LAB', `wireguard-go refused its configuration: errno ${error}`));
    });
    connection.write(`set=1\n${lines.join('\n')}\n\n`);
  });
}
