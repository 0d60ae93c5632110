import type {
  Hop,
  HopPoint,
  MeshNode,
  MeshPeer,
  MeshProbeAnswer,
  PacketProbeAnswer,
} from '../observe/probe-protocol.js';
import type { Paint } from './paint.js';
import { formatTable } from './table.js';

const POINT_WORDS: Readonly<Record<HopPoint, string>> = {
  sent: 'sent',
  encapsulated: 'encapsulated',
  unreported: '?',
  received: 'received',
  delivered: 'delivered',
  kernel: 'behind the agent',
  'reply-encapsulated': 'answer encapsulated',
  'reply-received': 'answer received',
  'reply-delivered': 'answer delivered',
};

const PROTOCOL_WORDS: Readonly<Record<PacketProbeAnswer['protocol'], string>> = {
  icmp: 'icmp echo request',
  udp: 'udp',
  tcp: 'tcp SYN',
};

/** A probe for people: the packet, a line a hop, and what came of it. */
export function probeReport(answer: PacketProbeAnswer, paint: Paint): string[] {
  const { source, sourceIs, destination, protocol, port, sizeBytes, hops, notes } = answer;
  const what = `${PROTOCOL_WORDS[protocol]}${port === null ? '' : ` to port ${port}`}, ${sizeBytes} bytes`;
  const nodes = Math.max(...hops.map(({ node }) => node.length));
  const points = Math.max(...hops.map(({ point }) => POINT_WORDS[point].length));
  return [
    `${paint.strong(`${source} → ${destination}`)}  ${what}`,
    paint.faint(
      `  from ${sourceIs}, sent by this host itself: its pod bridge and its FORWARD rules are not on the way`,
    ),
    ...hops.map((hop) => {
      const place = `  ${hop.node.padEnd(nodes)}  ${POINT_WORDS[hop.point].padEnd(points)}`;
      return `${place}  ${paintHop(hop, paint)}`.trimEnd();
    }),
    ...notes.map((note) => paint.warning(`  ! ${note}`)),
    outcome(answer, paint),
  ];
}

function paintHop({ verdict, detail }: Hop, paint: Paint): string {
  if (verdict === 'dropped') return paint.bad(detail);
  return verdict === 'unknown' ? paint.warning(detail) : detail;
}

function outcome(answer: PacketProbeAnswer, paint: Paint): string {
  const { reached, likelyCause, sent, answered, roundTripMs } = answer;
  const time = roundTripMs === null ? '' : ` after ${roundTripMs.toFixed(1)} ms`;
  if (reached) return paint.good(`reached: ${sent === 1 ? 'answered' : `${answered} of ${sent} answered`}${time}`);
  const none = sent > 1 ? `not reached, none of ${sent} answered` : 'not reached';
  const some = answered === 0 ? none : `${answered} of ${sent} answered`;
  return paint.bad(`${some}: ${likelyCause ?? 'nothing more is known'}`);
}

/** A mesh for people: who reaches whom, how fast, with what loss and room. */
export function meshReport({ nodes, notes, reached }: MeshProbeAnswer, paint: Paint): string[] {
  const cells = nodes.map((from) => nodes.map((to) => wordPair(from, to)));
  const rows = nodes.map(({ node }, index) => [node, ...cells[index]]);
  const table = formatTable(
    [{ title: 'FROM \\ TO' }, ...nodes.map(({ node }) => ({ title: node }))],
    rows,
    paint,
    (_row, column, text) => (column === 0 ? paint.strong(text) : paintPair(text, paint)),
  );
  return [
    ...table,
    ...notes.map((note) => paint.warning(`! ${note}`)),
    reached ? paint.good('every node reaches every other') : paint.bad('not every node is known to reach every other'),
  ];
}

const SAME = '-';
const UNKNOWN = '?';
const LOST = 'no answer';

function wordPair(from: MeshNode, to: MeshNode): string {
  if (from.subnet === to.subnet) return SAME;
  const peer = from.peers.find(({ subnet }) => subnet === to.subnet);
  return peer === undefined ? UNKNOWN : wordPeer(peer);
}

function wordPeer({ sent, answered, latencyMs, pathMtuBytes }: MeshPeer): string {
  if (answered === 0 || latencyMs === null) return LOST;
  const loss = `${Math.round((1 - answered / sent) * 100)}% lost`;
  return `${latencyMs.toFixed(2)} ms, ${loss}, MTU ${pathMtuBytes ?? UNKNOWN}`;
}

function paintPair(text: string, paint: Paint): string {
  if (text === LOST) return paint.bad(text);
  if (text === UNKNOWN) return paint.warning(text);
  return text.includes(', 0% lost') || text === SAME ? text : paint.warning(text);
}
