// How the timeline is drawn: lanes of bars on a canvas, or how busy each lane was where bars would
// be thinner than the eye can tell apart.

import { KINDS, OUTCOMES } from "./spans.js";
import { GROUPS } from "./marks.js";

export const AXIS = 24; // pixels at the top, for the times
const GAP = 6; // between lanes
const TALLEST = 76;
const THIN = 2; // pixels; thinner bars become shares
const SLIM = 0.46; // of the height of a lane: what is on its way
const HUES = 6;
const [BACKUP, TRIAL, EVALUATION] = ["backup", "trial", "evaluation"].map((kind) => KINDS.indexOf(kind));
const ANSWERED = OUTCOMES.indexOf("answered");
const LOST = OUTCOMES.indexOf("lost");
const OPEN = OUTCOMES.indexOf("open");

/** @typedef {{width: number, height: number, gutter: number, begin: number, end: number,
 *   lanes: number[]}} Frame what part of the timeline is seen, and where */

/** @param {Frame} frame @returns {{top: (row: number) => number, height: number}} */
export function rows({ height, lanes }) {
  const each = Math.min((height - AXIS) / Math.max(1, lanes.length), TALLEST + GAP);
  return { top: (row) => AXIS + row * each + GAP / 2, height: Math.max(6, Math.min(each - GAP, TALLEST)) };
}

/** @param {Frame} frame @returns {(time: number) => number} */
export function scale({ width, gutter, begin, end }) {
  const factor = (width - gutter) / (end - begin);
  return (time) => gutter + (time - begin) * factor;
}

/** @param {(name: string) => string} colour @returns {Object} the colours of the theme that is on */
export function palette(colour) {
  const names = ["ground", "card", "text", "weak", "rule", "none"];
  const found = Object.fromEntries(names.map((name) => [name, colour(name)]));
  found.hues = Array.from({ length: HUES }, (_, at) => colour(`c${at}`));
  found.groups = Object.fromEntries(Object.entries(GROUPS).map(([group, { colour: name }]) => [group, colour(name)]));
  return found;
}

/**
 * Draws all.
 * @param {CanvasRenderingContext2D} ctx @param {Frame} frame
 * @param {{spans: import("./spans.js").Spans, names: string[], start: number, marks: any[],
 *   selected: ?import("./spans.js").Span, colours: any, hatch: CanvasPattern}} what
 * @returns {{spans: number, mode: "bars"|"shares"}} how many spans are seen, and how
 */
export function draw(ctx, frame, what) {
  const { width, height, gutter } = frame;
  ctx.clearRect(0, 0, width, height);
  const place = rows(frame);
  tracks(ctx, frame, place, what);
  if (!what.spans.length) return { spans: 0, mode: "bars" };
  axis(ctx, frame, ticks(frame, what.start), what);
  ctx.save();
  ctx.beginPath();
  ctx.rect(gutter, 0, width - gutter, height);
  ctx.clip();
  const seen = visible(frame, what.spans);
  const lanes = Math.max(1, frame.lanes.length);
  const mode = seen.length * THIN > (width - gutter) * lanes ? "shares" : "bars";
  if (mode === "bars") bars(ctx, frame, place, what, seen);
  else shares(ctx, frame, place, what, seen);
  marks(ctx, frame, what);
  ctx.restore();
  return { spans: seen.length, mode };
}

/**
 * What is at least partly in the frame, in the order of the ends; and since when each was all that
 * its worker had in hand: before that, the worker was busy with the one before.
 * @returns {{at: number, from: number}[]} ``at``: index into the arrays
 */
function visible({ begin, end, lanes }, spans) {
  const before = new Map(lanes.map((lane) => [lane, -Infinity]));
  const found = [];
  for (let place = spans.find(begin); place < spans.length; place += 1) {
    const at = spans.at(place);
    const last = before.get(spans.lane[at]);
    if (last === undefined || spans.begin[at] > end) continue;
    found.push({ at, from: Math.min(Math.max(spans.begin[at], last), spans.end[at]) });
    before.set(spans.lane[at], spans.end[at]);
  }
  return found;
}

function tracks(ctx, { width, gutter, lanes }, place, { names, colours }) {
  ctx.font = "12.5px system-ui, sans-serif";
  ctx.textBaseline = "middle";
  ctx.textAlign = "left";
  lanes.forEach((lane, row) => {
    const top = place.top(row);
    ctx.globalAlpha = 0.35;
    ctx.fillStyle = colours.rule;
    ctx.fillRect(gutter, top, width - gutter, place.height);
    ctx.globalAlpha = 1;
    ctx.fillStyle = colours.text;
    ctx.fillText(fitted(ctx, names[lane], gutter - 10), 0, top + place.height / 2);
  });
}

/** Cuts a text to so many pixels. */
function fitted(ctx, text, most) {
  if (ctx.measureText(text).width <= most) return text;
  let keep = Math.min(text.length, 40);
  while (keep > 1 && ctx.measureText(`${text.slice(0, keep)}…`).width > most) keep -= 1;
  return `${text.slice(0, keep)}…`;
}

function bars(ctx, frame, place, { spans, selected, colours, hatch }, seen) {
  const x = scale(frame);
  const row = new Map(frame.lanes.map((lane, at) => [lane, place.top(at)]));
  const { height } = place;
  ctx.globalAlpha = 0.4;
  for (const { at, from } of seen) {
    if (spans.outcome[at] === OPEN) continue;
    const until = Number.isNaN(spans.computing[at]) ? spans.end[at] : spans.computing[at];
    if (until <= from) continue;
    const left = x(from);
    ctx.fillStyle = colours.hues[spans.round[at] % HUES];
    ctx.fillRect(left, row.get(spans.lane[at]) + height * (0.5 - SLIM / 2), Math.max(0.5, x(until) - left), height * SLIM);
  }
  ctx.globalAlpha = 1;
  for (const { at } of seen) {
    if (Number.isNaN(spans.computing[at])) continue;
    const left = x(spans.computing[at]);
    const wide = x(spans.end[at]) - left;
    const seenWide = Math.max(1, wide > 4 ? wide - 1 : wide);
    const top = row.get(spans.lane[at]);
    ctx.fillStyle = colours.hues[spans.round[at] % HUES];
    ctx.fillRect(left, top, seenWide, height);
    if (spans.kind[at] === EVALUATION) {
      ctx.fillStyle = hatch;
      ctx.fillRect(left, top, seenWide, height);
    }
  }
  for (const { at, from } of seen) outline(ctx, spans, at, x(from), x(spans.end[at]), row.get(spans.lane[at]), height, colours);
  if (selected && row.has(selected.lane)) {
    const [left, right] = [x(selected.begin), x(selected.end)];
    ctx.strokeStyle = colours.text;
    ctx.lineWidth = 2;
    ctx.strokeRect(left - 1, row.get(selected.lane) - 2, Math.max(3, right - left) + 2, height + 4);
  }
}

/** Backups, trials and what did not count are told by their outline, not by a colour. */
function outline(ctx, spans, at, left, right, top, height, colours) {
  const kind = spans.kind[at];
  const outcome = spans.outcome[at];
  const unused = outcome !== ANSWERED;
  if (outcome === OPEN || (kind !== BACKUP && kind !== TRIAL && !unused)) return;
  const wide = Math.max(2, right - left);
  ctx.strokeStyle = colours.text;
  ctx.lineWidth = 1.25;
  ctx.setLineDash(unused ? [3, 2] : []);
  ctx.strokeRect(left + 0.5, top + 0.5, wide - 1, height - 1);
  ctx.setLineDash([]);
  if (outcome === LOST) cross(ctx, right, top + height / 2, colours);
  else if (kind === BACKUP && wide > 10) diamond(ctx, left + wide / 2, top + 6, colours);
}

function cross(ctx, x, y, colours) {
  ctx.strokeStyle = colours.groups.faults;
  ctx.lineWidth = 2.5;
  ctx.beginPath();
  ctx.moveTo(x - 5, y - 5);
  ctx.lineTo(x + 5, y + 5);
  ctx.moveTo(x + 5, y - 5);
  ctx.lineTo(x - 5, y + 5);
  ctx.stroke();
}

function diamond(ctx, x, y, colours) {
  ctx.fillStyle = colours.ground;
  ctx.strokeStyle = colours.text;
  ctx.lineWidth = 1;
  ctx.beginPath();
  ctx.moveTo(x, y - 4);
  ctx.lineTo(x + 4, y);
  ctx.lineTo(x, y + 4);
  ctx.lineTo(x - 4, y);
  ctx.closePath();
  ctx.fill();
  ctx.stroke();
}

/** For each column of pixels, which share of it each lane has computed, and had work on its way. */
function shares(ctx, frame, place, { spans, colours }, seen) {
  const x = scale(frame);
  const columns = Math.ceil(frame.width - frame.gutter);
  const row = new Map(frame.lanes.map((lane, at) => [lane, at]));
  const busy = frame.lanes.map(() => new Float32Array(columns));
  const wire = frame.lanes.map(() => new Float32Array(columns));
  for (const { at, from } of seen) {
    const lane = row.get(spans.lane[at]);
    const [begin, end] = [x(from) - frame.gutter, x(spans.end[at]) - frame.gutter];
    const computing = Number.isNaN(spans.computing[at]) ? end : x(spans.computing[at]) - frame.gutter;
    if (spans.outcome[at] !== OPEN) cover(wire[lane], begin, computing);
    cover(busy[lane], computing, end);
  }
  frame.lanes.forEach((_, lane) => {
    const bottom = place.top(lane) + place.height;
    for (let at = 0; at < columns; at += 1) {
      const computed = Math.min(1, busy[lane][at]) * place.height;
      const sent = Math.min(1, busy[lane][at] + wire[lane][at]) * place.height;
      ctx.fillStyle = colours.hues[0];
      ctx.globalAlpha = 0.28;
      if (sent > computed) ctx.fillRect(frame.gutter + at, bottom - sent, 1, sent - computed);
      ctx.globalAlpha = 1;
      if (computed > 0) ctx.fillRect(frame.gutter + at, bottom - computed, 1, computed);
    }
  });
  for (const { at } of seen) {
    const outcome = spans.outcome[at];
    if (outcome === OPEN || (spans.kind[at] !== BACKUP && outcome === ANSWERED)) continue;
    ctx.fillStyle = outcome === ANSWERED ? colours.groups.stragglers : colours.groups.faults;
    ctx.fillRect(x(spans.end[at]) - 1, place.top(row.get(spans.lane[at])) - 2, 2, 5);
  }
}

function cover(columns, begin, end) {
  const last = Math.min(columns.length - 1, Math.floor(end));
  for (let at = Math.max(0, Math.floor(begin)); at <= last; at += 1) {
    columns[at] += Math.max(0, Math.min(end, at + 1) - Math.max(begin, at));
  }
}

function marks(ctx, frame, { marks: list, colours }) {
  const x = scale(frame);
  ctx.lineWidth = 1;
  ctx.globalAlpha = 0.8;
  for (const mark of list) {
    if (mark.time < frame.begin || mark.time > frame.end) continue;
    const at = Math.round(x(mark.time)) + 0.5;
    ctx.strokeStyle = colours.groups[mark.group];
    ctx.beginPath();
    ctx.moveTo(at, AXIS - 6);
    ctx.lineTo(at, frame.height);
    ctx.stroke();
  }
  ctx.globalAlpha = 1;
}

/** @returns {{at: number, text: string}[]} where the times of the axis stand, in pixels */
function ticks(frame, start) {
  const { begin, end, width, gutter } = frame;
  const x = scale(frame);
  const step = niceStep((end - begin) / Math.max(2, Math.floor((width - gutter) / 110)));
  const digits = Math.max(0, Math.min(6, -Math.floor(Math.log10(step) + 1e-9)));
  const found = [];
  for (let n = Math.ceil((begin - start) / step); n * step <= end - start; n += 1) {
    found.push({ at: Math.round(x(start + n * step)) + 0.5, text: `${(n * step).toFixed(digits)} s` });
  }
  return found;
}

function axis(ctx, { width, gutter, height }, found, { colours }) {
  ctx.font = "12px system-ui, sans-serif";
  ctx.textBaseline = "middle";
  ctx.textAlign = "center";
  ctx.lineWidth = 1;
  ctx.strokeStyle = colours.rule;
  ctx.fillStyle = colours.weak;
  for (const { at, text } of found) {
    ctx.beginPath();
    ctx.moveTo(at, AXIS - 5);
    ctx.lineTo(at, height);
    ctx.stroke();
    const half = ctx.measureText(text).width / 2;
    if (at - half >= gutter && at + half <= width) ctx.fillText(text, at, 9);
  }
}

/** @param {number} raw @returns {number} the next of 1, 2, 5 times a power of ten */
export function niceStep(raw) {
  const power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].map((m) => m * power).find((step) => step >= raw * (1 - 1e-9)) || 10 * power;
}

/** @param {string} stroke @returns {HTMLCanvasElement} tile of the pattern that evaluations have */
export function hatchTile(stroke) {
  const tile = document.createElement("canvas");
  tile.width = 6;
  tile.height = 6;
  const ctx = tile.getContext("2d");
  ctx.strokeStyle = stroke;
  ctx.lineWidth = 2;
  ctx.beginPath();
  for (const shift of [-6, 0, 6]) {
    ctx.moveTo(shift - 1, 7);
    ctx.lineTo(shift + 7, -1);
  }
  ctx.stroke();
  return tile;
}
