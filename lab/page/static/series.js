// What the charts show, computed from the columns of a run. Pure.

import { byteUnit } from "./format.js";

/** @typedef {import("./columns.js").Columns} Columns */

/**
 * @param {Columns} steps @param {string} axis step, seconds or bytes
 * @returns {{x: number[], title: string, unit: string, size: number}} x is divided by size
 */
export function places(steps, axis) {
  if (axis === "step") return { x: steps.step, title: "step", unit: "", size: 1 };
  if (axis === "seconds") {
    const size = steps.length && steps.seconds[steps.length - 1] > 600 ? 60 : 1;
    const unit = size === 60 ? "minutes" : "seconds";
    return { x: steps.seconds.map((n) => n / size), title: `${unit} of work`, unit, size };
  }
  const all = steps.sent.map((sent, at) => sent + steps.received[at]);
  const { name, size } = byteUnit(all.length ? all[all.length - 1] : 0);
  return { x: all.map((n) => n / size), title: `${name} sent and received`, unit: name, size };
}

/**
 * @param {readonly number[]} steps ascending @param {number} step
 * @returns {number} index of the first that is at least so large; the length if none is
 */
export function find(steps, step) {
  let low = 0;
  let high = steps.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle] < step) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Where a step lies on the axis: between its neighbours, in proportion.
 * @param {readonly number[]} steps @param {readonly number[]} x @param {number} step @returns {number} */
export function placeOf(steps, x, step) {
  const many = steps.length;
  if (!many) return NaN;
  const at = find(steps, step);
  if (at === many) return x[many - 1];
  if (steps[at] === step) return x[at];
  const [before, beforeX] = at ? [steps[at - 1], x[at - 1]] : [0, 0];
  return beforeX + ((x[at] - beforeX) * (step - before)) / (steps[at] - before);
}

/**
 * @param {Columns} steps @param {number} window of steps
 * @returns {number[]} mean of the losses of so many steps before each, as far as they are kept
 */
export function runningMean(steps, window) {
  const { step, loss } = steps;
  const found = new Array(steps.length);
  let first = 0;
  let total = 0;
  for (let at = 0; at < step.length; at += 1) {
    total += loss[at];
    while (step[first] <= step[at] - window) {
      total -= loss[first];
      first += 1;
    }
    found[at] = total / (at - first + 1);
  }
  return found;
}

/** How many steps a running mean takes in. @param {Columns} steps @returns {number} */
export function meanWindow(steps) {
  const last = steps.length ? steps.step[steps.length - 1] : 0;
  return Math.max(20, 10 * steps.stride, Math.min(500, Math.round(last / 40)));
}

/**
 * The growth of a sum per unit of another: documents per second, bytes per step.
 * @param {readonly number[]} sum @param {readonly (number|null)[]} by ascending
 * @param {number} window at least so many units of ``by`` lie between the ends of a difference
 * @returns {number[]} NaN where it is not known
 */
export function growth(sum, by, window) {
  const found = new Array(sum.length).fill(NaN);
  let first = 0;
  for (let at = 1; at < sum.length; at += 1) {
    if (by[at] === null || by[at] < by[first] || by[first] === null) {
      first = at; // the clock began anew
      continue;
    }
    while (first < at - 1 && by[first + 1] !== null && by[at] - by[first + 1] >= window) first += 1;
    const apart = by[at] - by[first];
    if (apart > 0) found[at] = (sum[at] - sum[first]) / apart;
  }
  return found;
}

/** Lowest and highest number, of those that are; null if none is.
 * @param {readonly (readonly number[])[]} lists @returns {?[number, number]} */
export function extent(lists) {
  let low = Infinity;
  let high = -Infinity;
  for (const list of lists) {
    for (const n of list) {
      if (n < low) low = n;
      if (n > high && n !== Infinity) high = n;
    }
  }
  return low <= high ? [low, high] : null;
}
