/** How long each command of `flannelctl` about an agent takes, and how long others wait for the agent meanwhile. */
import { FLANNELCTL } from '../harness/daemon.js';
import type { ClusterNode } from '../harness/cluster.js';
import { AnswerWatch } from './under-storm.js';

const TIMEOUT_MS = 300_000;
/** 1 is a verdict: a node that has trouble, a mesh that is not whole. */
const ANSWERED = [0, 1];

/** @returns lines for people */
export async function measureCommands(from: ClusterNode, to: ClusterNode): Promise<[string, string][]> {
  const [source, destination] = [from, to].map(({ pods }) => pods[0].address);
  const socket = `--socket=${from.running.controlSocket}`;
  const etcd = `--etcd-endpoints=${from.cluster.endpoint}`;
  const commands = [
    ['version', socket],
    ['status', socket],
    ['leases', socket],
    ['leases', '--json', socket],
    ['leases', '--from-store', etcd],
    ['explain', source, destination, socket],
    ['drops', socket],
    ['probe', destination, socket],
    ['probe', '--mesh', '--timeout', '5', socket],
    ['doctor', socket, etcd],
  ];
  const rows: [string, string][] = [];
  for (const words of commands) {
    const shown = words.filter((word) => word !== socket && word !== etcd).join(' ');
    rows.push([`flannelctl ${shown}`, await measureCommand(from, words)]);
  }
  return rows;
}

async function measureCommand(node: ClusterNode, words: readonly string[]): Promise<string> {
  const answers = new AnswerWatch(node);
  answers.begin();
  const startedMs = performance.now();
  const { status, stderr } = await node.namespace.exec(FLANNELCTL, words, {
    timeoutMs: TIMEOUT_MS,
    allowFailure: true,
  });
  const tookMs = performance.now() - startedMs;
  await answers.stop();
  if (!ANSWERED.includes(status)) throw new Error(`flannelctl ${words.join(' ')} exited ${status}: ${stderr}`);
  return `${tookMs.toFixed(0)} ms; longest answer to others ${answers.longestMs.toFixed(0)} ms`;
}
