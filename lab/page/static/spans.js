// What workers did and when: a ring of the newest spans, in typed arrays.

import { byName } from "./format.js";

export const OUTCOMES = ["answered", "dropped", "failed", "lost", "open"];
export const KINDS = ["work", "backup", "trial", "evaluation"];

/** @typedef {{epoch: number, lane: number, begin: number, computing: number, end: number,
 *   outcome: string, kind: string, round: number, start: number, count: number, version: number}} Span
 *   computing is NaN if nobody has told it */

/** Names of lanes: a worker that comes back under its name goes on in its lane. */
export class Lanes {
  constructor() {
    this.names = [];
    this.byWorker = new Map();
    this.byName = new Map();
  }

  /**
   * A worker's name may come after its first spans, which then lie in a lane of a makeshift name.
   * @param {number} epoch @param {number} worker @param {string} name
   * @returns {?[number, number]} spans of the one lane belong to the other
   */
  learn(epoch, worker, name) {
    const key = `${epoch} ${worker}`;
    const known = this.byWorker.get(key);
    if (known !== undefined && this.names[known] === name) return null;
    const there = this.byName.get(name);
    this.byWorker.set(key, there ?? this.add(name));
    return known === undefined ? null : [known, this.byWorker.get(key)];
  }

  add(name) {
    this.names.push(name);
    this.byName.set(name, this.names.length - 1);
    return this.names.length - 1;
  }

  /** @param {number} epoch @param {number} worker @returns {number} the lane */
  of(epoch, worker) {
    const key = `${epoch} ${worker}`;
    let lane = this.byWorker.get(key);
    if (lane === undefined) {
      lane = this.add(`worker ${worker}${epoch > 1 ? `, epoch ${epoch}` : ""}`);
      this.byWorker.set(key, lane);
    }
    return lane;
  }

  /** @param {Iterable<number>} lanes @returns {number[]} in the order of their names */
  sorted(lanes) {
    return [...lanes].sort((a, b) => byName(this.names[a], this.names[b]));
  }
}

/** Spans in the order of their ends; the oldest go when there is no room. */
export class Spans {
  /** @param {Lanes} lanes @param {number} room */
  constructor(lanes, room = 20_000) {
    this.lanes = lanes;
    this.room = room;
    for (const name of ["begin", "computing", "end"]) this[name] = new Float64Array(room);
    for (const name of ["epoch", "lane", "round", "start", "count", "version"]) this[name] = new Int32Array(room);
    for (const name of ["outcome", "kind"]) this[name] = new Uint8Array(room);
    this.clear();
  }

  clear() {
    this.first = 0;
    this.length = 0;
    this.complete = false; // whether these are all that there ever were
  }

  /** @param {readonly any[][]} rows as the server sends them */
  add(rows) {
    for (const row of rows) {
      const [epoch, worker, begin, computing, end, outcome, kind, round, start, count, version] = row;
      const at = (this.first + this.length) % this.room;
      if (this.length === this.room) {
        this.first = (this.first + 1) % this.room;
        this.complete = false;
      } else this.length += 1;
      this.epoch[at] = epoch;
      this.lane[at] = this.lanes.of(epoch, worker);
      this.begin[at] = begin;
      this.computing[at] = computing === null ? NaN : computing;
      this.end[at] = end;
      this.outcome[at] = Math.max(0, OUTCOMES.indexOf(outcome));
      this.kind[at] = Math.max(0, KINDS.indexOf(kind));
      this.round[at] = round;
      this.start[at] = start;
      this.count[at] = count;
      this.version[at] = version;
    }
  }

  /** @param {number} from @param {number} to the lane in which the spans of the first belong */
  move(from, to) {
    for (let place = 0; place < this.length; place += 1) {
      const at = this.at(place);
      if (this.lane[at] === from) this.lane[at] = to;
    }
  }

  /** @param {number} place from 0, the oldest @returns {number} index into the arrays */
  at(place) {
    return (this.first + place) % this.room;
  }

  /** @returns {number} when the oldest span ended; Infinity if there is none */
  get oldest() {
    return this.length ? this.end[this.at(0)] : Infinity;
  }

  /** @returns {number} when the newest span ended; -Infinity if there is none */
  get newest() {
    return this.length ? this.end[this.at(this.length - 1)] : -Infinity;
  }

  /** @param {number} time @returns {number} place of the first span that ends then or later */
  find(time) {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.end[this.at(middle)] < time) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** @param {number} place @returns {Span} */
  span(place) {
    const at = this.at(place);
    return {
      epoch: this.epoch[at], lane: this.lane[at], begin: this.begin[at], computing: this.computing[at],
      end: this.end[at], outcome: OUTCOMES[this.outcome[at]], kind: KINDS[this.kind[at]],
      round: this.round[at], start: this.start[at], count: this.count[at], version: this.version[at],
    };
  }
}
