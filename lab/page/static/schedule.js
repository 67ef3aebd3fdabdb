// When the shards of a round were given out, computed and answered: a bar for each.

import { svg } from "./dom.js";
import { cut, duration, moment } from "./format.js";

const WIDEST = 860;
const LEFT = 110;
const ROW = 20;
const MOST = 40; // rows; the table below has all
const HUES = 6;

/** @param {any[]} shards as the server tells them @param {number} start of the run @param {number} room in pixels
 * @returns {SVGElement} */
export function drawSchedule(shards, start, room) {
  const width = Math.max(240, Math.min(room, WIDEST));
  const shown = shards.slice(0, MOST);
  const begin = Math.min(...shown.map((shard) => shard.begin));
  const end = Math.max(...shown.map((shard) => shard.end ?? shard.begin));
  const length = end - begin || 1e-6;
  const x = (time) => LEFT + ((time - begin) / length) * (width - LEFT - 8);
  const height = 18 + shown.length * ROW;
  const drawing = svg("svg", {
    class: "schedule", width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `The round took ${duration(length)}; the table below has the times of each shard.`,
  });
  drawing.append(
    svg("text", { x: LEFT, y: 11, class: "weak-text" }, moment(Math.max(0, begin - start), length)),
    svg("text", { x: width - 8, y: 11, class: "weak-text end" }, `+ ${duration(length)}`),
  );
  shown.forEach((shard, at) => drawing.append(...row(shard, 18 + at * ROW, x)));
  return drawing;
}

function row(shard, y, x) {
  const hue = shard.worker % HUES;
  const end = shard.end ?? shard.begin;
  const from = shard.computing ?? end;
  const bar = (a, b, kind, height) =>
    svg("rect", { x: x(a), y: y + (ROW - height) / 2, width: Math.max(1, x(b) - x(a)), height, class: kind });
  const parts = [svg("text", { x: LEFT - 10, y: y + 14, class: "end" }, cut(shard.name || `worker ${shard.worker}`, 16))];
  parts.push(bar(shard.begin, from, `fill-c${hue} pale`, 7));
  if (shard.computing !== null) parts.push(bar(from, end, `fill-c${hue}`, 14));
  if (shard.outcome !== "answered" || shard.kind === "backup") {
    parts.push(bar(shard.begin, end, shard.outcome === "answered" ? "outline" : "outline unused", 16));
  }
  return parts;
}
