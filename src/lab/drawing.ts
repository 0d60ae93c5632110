/** Draws a lab with characters, for terminals of 80 columns and more. */
import type { LabPlan, NodePlan } from './plan.js';

const COLUMNS = 80;
const GAP = '  ';
/** Where a machine's cable meets its box, from the box's left edge. */
const STEM = 3;
const OUTSIDE_STEM = STEM;
const ETCD_STEM = 38;
const MIN_BUS_WIDTH = 60;

/** The lab's topology, line by line. */
export function drawLab(plan: LabPlan): string[] {
  const contents = plan.nodes.map((node) => nodeLines(plan, node));
  const width = Math.max(23, ...contents.flat().map((line) => line.length + 1));
  const boxes = plan.nodes.map((node, index) => drawBox(node.name, contents[index], width));
  const step = boxes[0][0].length + GAP.length;
  const perRow = Math.max(1, Math.floor((COLUMNS + GAP.length) / step));
  const stems = (count: number) => Array.from({ length: count }, (_, index) => index * step + STEM);

  const first = Math.min(perRow, boxes.length);
  const busWidth = Math.max(first * step - GAP.length, MIN_BUS_WIDTH);
  const lines = [
    ` outside ${plan.outside.world}`.padEnd(ETCD_STEM - 2) + 'etcd',
    `   │ eth0 ${plan.outside.address}`.padEnd(ETCD_STEM) + `│ eth0 ${plan.etcd.address}`,
    drawBus(` underlay ${plan.underlay.cidr} `, busWidth, [OUTSIDE_STEM, ETCD_STEM], stems(first)),
  ];
  for (let index = 0; index < boxes.length; index += perRow) {
    const row = boxes.slice(index, index + perRow);
    // Those further down hang on the same bus.
    if (index > 0) lines.push(drawStems(stems(row.length)));
    row[0].forEach((_, line) => lines.push(row.map((box) => box[line]).join(GAP)));
  }
  return lines;
}

/** The underlay as a bus, cables leading up and down, its name where there is room. */
function drawBus(label: string, width: number, up: readonly number[], down: readonly number[]): string {
  const line = Array.from({ length: width }, (_, column): string => {
    if (up.includes(column)) return down.includes(column) ? '╪' : '╧';
    return down.includes(column) ? '╤' : '═';
  });
  const free = (start: number) => line.slice(start, start + label.length).every((character) => character === '═');
  const start = line.findIndex((_, column) => column + label.length < width && free(column));
  if (start >= 0) line.splice(start, label.length, ...label.split(''));
  return line.join('');
}

function drawStems(columns: readonly number[]): string {
  return columns.reduce((line, column) => `${line.padEnd(column)}│`, '');
}

function drawBox(title: string, lines: readonly string[], width: number): string[] {
  return [
    `┌──┴─${` ${title} `.padEnd(width - 4, '─')}┐`,
    ...lines.map((line) => `│ ${line.padEnd(width - 1)}│`),
    `└${'─'.repeat(width)}┘`,
  ];
}

/** A node's devices with their addresses, and its pods. */
function nodeLines(plan: LabPlan, node: NodePlan): string[] {
  const devices = [
    ['eth0', node.address],
    ...(plan.overlayDevice === null ? [] : [[plan.overlayDevice, `${node.subnet.split('/')[0]}/32`]]),
    [plan.bridge, `${node.gateway}/${plan.subnetLength}`],
  ];
  const column = Math.max(...devices.map(([name]) => name.length));
  const shown = node.pods.length > 4 ? node.pods.slice(0, 3) : node.pods;
  const rest = node.pods.length - shown.length;
  return [
    ...devices.map(([name, address]) => `${name.padEnd(column)} ${address}`),
    ...shown.map((pod, index) => ` ${index === node.pods.length - 1 ? '└' : '├'}─ ${pod.name} ${pod.address}`),
    ...(rest > 0 ? [` └─ and ${rest} more`] : []),
  ];
}
