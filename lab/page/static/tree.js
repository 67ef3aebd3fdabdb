// How the sum of a round was formed, as a drawing: shards below, sums of two above them.

import { svg } from "./dom.js";
import { cut, duration, integer } from "./format.js";

const WIDE = 112; // pixels of a leaf
const SLIM = 30; // where there are many
const LEVEL = 52;
const BOX = 50; // height of a leaf
const MANY = 16;
const HUES = 6;

/** @typedef {number|[Tree, Tree]} Tree place of a shard, or the sum of two */

/** @param {Tree} tree @returns {number} of sums above the shards */
export function depth(tree) {
  return Array.isArray(tree) ? 1 + Math.max(...tree.map(depth)) : 0;
}

/**
 * Where everything lies. Pure.
 * @param {Tree} tree @param {number} wide of a leaf
 * @returns {{nodes: {x: number, level: number, place: ?number, children: any[]}[], leaves: number, levels: number}}
 */
export function layout(tree, wide) {
  const levels = depth(tree);
  const nodes = [];
  let leaves = 0;
  function put(part, level) {
    if (!Array.isArray(part)) {
      const leaf = { x: leaves * wide + wide / 2, level: levels, place: part, children: [] };
      leaves += 1;
      nodes.push(leaf);
      return leaf;
    }
    const children = part.map((one) => put(one, level + 1));
    const x = children.reduce((sum, child) => sum + child.x, 0) / children.length;
    const node = { x, level, place: null, children };
    nodes.push(node);
    return node;
  }
  put(tree, 0);
  return { nodes, leaves, levels };
}

/** @param {Tree} tree @returns {string} in words: ((1 + 2) + 3), shards counted from 1 */
export function inWords(tree) {
  return Array.isArray(tree) ? `(${tree.map(inWords).join(" + ")})` : String(tree + 1);
}

/**
 * @param {Tree} tree of any shape: a strategy that forms no sum joins all its parts at once
 * @param {(place: number) => ?{name: string, worker: number, start: number, count: number, seconds: ?number}} shardAt
 * @param {string} title of the whole sum
 * @returns {SVGElement}
 */
export function drawTree(tree, shardAt, title) {
  const slim = inWords(tree).split(/[^0-9]+/).length - 1 > MANY;
  const wide = slim ? SLIM : WIDE;
  const { nodes, leaves, levels } = layout(tree, wide);
  const y = (level) => 34 + level * (slim ? LEVEL * 0.7 : LEVEL);
  const width = Math.max(leaves * wide, 160);
  const shift = (width - leaves * wide) / 2;
  const height = y(levels) + BOX + 8;
  const drawing = svg("svg", {
    class: "tree", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}: ${inWords(tree)}`,
  });
  for (const node of nodes) {
    for (const child of node.children) {
      const [x1, x2] = [node.x + shift, child.x + shift];
      const middle = (y(node.level) + y(child.level)) / 2;
      drawing.append(svg("path", { class: "edge", d: `M${x1},${y(node.level)}C${x1},${middle} ${x2},${middle} ${x2},${y(child.level)}` }));
    }
  }
  for (const node of nodes) {
    const x = node.x + shift;
    if (node.place === null) drawing.append(...sum(x, y(node.level)));
    else drawing.append(leaf(x, y(node.level), node.place, shardAt(node.place), wide, slim));
  }
  const root = nodes[nodes.length - 1].x + shift;
  drawing.append(svg("text", { x: Math.min(Math.max(root, 70), width - 70), y: 13, class: "root" }, title));
  return drawing;
}

function sum(x, y) {
  return [svg("circle", { cx: x, cy: y, r: 11, class: "sum" }), svg("text", { x, y: y + 5, class: "plus" }, "+")];
}

function leaf(x, y, place, shard, wide, slim) {
  const hue = shard ? shard.worker % HUES : 5;
  const parts = [svg("rect", { x: x - wide / 2 + 3, y: y - 4, width: wide - 6, height: BOX, rx: 6, class: `leaf fill-c${hue} stroke-c${hue}` })];
  const line = (text, at, kind) => svg("text", { x, y: y + at, class: kind }, text);
  if (slim || !shard) parts.push(line(String(place + 1), 26, "name"));
  else {
    parts.push(line(cut(shard.name, 14), 11, "name"), line(`${integer(shard.start)}–${integer(shard.start + shard.count - 1)}`, 26, "small"),
      line(duration(shard.seconds), 40, "small"));
  }
  const title = shard ? `shard ${place + 1}: ${shard.name}, documents ${shard.start} to ${shard.start + shard.count - 1}` : `shard ${place + 1}`;
  return svg("g", { "data-place": place }, svg("title", {}, title), ...parts);
}
