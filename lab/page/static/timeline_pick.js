// Which span is meant: under the pointer, or next to another one; and what it is in words.

import { duration, integer } from "./format.js";

/** @typedef {import("./spans.js").Span} Span @typedef {import("./spans.js").Spans} Spans */

const NEAR = 4; // pixels

/**
 * @param {Spans} spans @param {number} lane @param {number} time
 * @param {number} pixel seconds that one takes
 * @returns {?Span} the one that computes then, or has it on its way, or is near
 */
export function under(spans, lane, time, pixel) {
  const slack = NEAR * pixel;
  let found = null;
  let best = Infinity;
  for (let place = spans.find(time - slack); place < spans.length; place += 1) {
    const at = spans.at(place);
    if (spans.lane[at] !== lane || spans.begin[at] > time + slack) continue;
    const from = Number.isNaN(spans.computing[at]) ? spans.begin[at] : spans.computing[at];
    const away = time < from ? from - time : Math.max(0, time - spans.end[at]);
    if (away < best) {
      best = away;
      found = place;
    }
  }
  return found === null ? null : spans.span(found);
}

/**
 * @param {Spans} spans @param {Span} from @param {number} direction 1: the next one, -1: the one before
 * @returns {?Span} in the same lane
 */
export function neighbour(spans, from, direction) {
  let found = null;
  for (let place = 0; place < spans.length; place += 1) {
    const at = spans.at(place);
    if (spans.lane[at] !== from.lane) continue;
    const ahead = (spans.end[at] - from.end) * direction || (spans.start[at] - from.start) * direction;
    if (ahead <= 0) continue;
    if (found === null || (spans.end[at] - spans.end[spans.at(found)]) * direction < 0) found = place;
  }
  return found === null ? null : spans.span(found);
}

/** @param {Spans} spans @param {number} lane @param {number} time @returns {?Span} whose middle is nearest */
export function nearest(spans, lane, time) {
  let found = null;
  let best = Infinity;
  for (let place = 0; place < spans.length; place += 1) {
    const at = spans.at(place);
    if (spans.lane[at] !== lane) continue;
    const away = Math.abs((spans.begin[at] + spans.end[at]) / 2 - time);
    if (away < best) {
      best = away;
      found = place;
    }
  }
  return found === null ? null : spans.span(found);
}

const OUTCOMES = {
  answered: "its result was taken", dropped: "its result was not used", failed: "it failed",
  lost: "lost with the worker", open: "still open at the end",
};

/** @param {Span} span @param {string} name of the worker @returns {string[]} lines */
export function words(span, name) {
  const kind = { work: "", backup: " (backup)", trial: " (trial)", evaluation: " (evaluation)" }[span.kind];
  const known = !Number.isNaN(span.computing);
  return [
    `${name} · round ${integer(span.round)}${kind}`,
    `documents ${integer(span.start)}–${integer(span.start + span.count - 1)} with weights of version ${integer(span.version)}`,
    known
      ? `computed ${duration(span.end - span.computing)}, ${duration(span.computing - span.begin)} on its way or waiting`
      : `${duration(span.end - span.begin)} from its assignment`,
    OUTCOMES[span.outcome],
  ];
}

/**
 * @param {Spans} spans @param {number} begin @param {number} end
 * @returns {{lane: number, shards: number, documents: number, computing: number, wire: number, backups: number,
 *   unused: number}[]} what each lane did in that time; computing and wire are shares of it
 */
export function summary(spans, begin, end) {
  const lanes = new Map();
  for (let place = spans.find(begin); place < spans.length; place += 1) {
    const span = spans.span(place);
    if (span.begin > end) continue;
    const of = lanes.get(span.lane) || { lane: span.lane, shards: 0, documents: 0, computing: 0, wire: 0, backups: 0, unused: 0 };
    lanes.set(span.lane, of);
    const from = Number.isNaN(span.computing) ? span.end : span.computing;
    of.shards += 1;
    of.documents += span.count;
    of.computing += inside(from, span.end, begin, end);
    of.wire += inside(span.begin, from, begin, end);
    of.backups += span.kind === "backup" ? 1 : 0;
    of.unused += span.outcome === "answered" ? 0 : 1;
  }
  return [...lanes.values()];
}

/** Which share of the time from begin to end lies between the two. */
function inside(from, to, begin, end) {
  return Math.max(0, Math.min(to, end) - Math.max(from, begin)) / (end - begin);
}
