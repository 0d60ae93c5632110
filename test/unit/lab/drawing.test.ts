import assert from 'node:assert/strict';
import { test } from 'node:test';
import { drawLab } from '../../../src/lab/drawing.js';
import { planLab } from '../../../src/lab/plan.js';

for (const [nodes, podsPerNode] of [
  [1, 0],
  [2, 2],
  [3, 2],
  [3, 26],
  [7, 3],
  [99, 1],
] as const) {
  test(`${nodes} nodes with ${podsPerNode} pods fit 80 columns, every box closed, every stem on its box`, () => {
    const plan = planLab({ nodes, podsPerNode });
    const lines = drawLab(plan);
    const text = lines.join('\n');
    for (const line of lines) assert.ok(line.length <= 80, line);
    for (const node of plan.nodes)
      for (const word of [node.name, node.address, node.gateway]) assert.ok(text.includes(word));
    for (const pod of plan.nodes.flatMap((node) => (node.pods.length > 4 ? node.pods.slice(0, 3) : node.pods))) {
      assert.ok(text.includes(`${pod.name} ${pod.address}`));
    }
    lines.forEach((line, index) => {
      if (!line.startsWith('┌')) return;
      for (let column = 0; column < line.length; column++) {
        if (line[column] !== '┴') continue;
        const above = lines[index - 1][column];
        assert.ok(['╤', '╪', '│'].includes(above), `${above} above column ${column}`);
      }
    });
    const count = (character: string) => [...text].filter((one) => one === character).length;
    assert.equal(count('┌'), nodes);
    for (const corner of ['┐', '┘']) assert.equal(count(corner), nodes);
  });
}
