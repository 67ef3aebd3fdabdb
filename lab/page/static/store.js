// All that the page knows of its run; messages in, and which parts have changed out.

import { Columns } from "./columns.js";
import { groupOf } from "./marks.js";
import { Lanes, Spans } from "./spans.js";

const SNAPSHOT_SPANS = 2000; // that a snapshot has at most
const MOST_MARKS = 1000;
const MOST_SAMPLES = 12;
const MOST_VALIDATIONS = 4000;
const HISTORY = 400; // values of a norm, or of a number of the strategy
const MOST_NAMES = 1000;

/** How values of names went over the whole run: [step, value] pairs, thinned when there are many. */
class History {
  constructor() {
    this.of = new Map();
  }

  /** @param {string} name @param {number} step @param {?number} value */
  add(name, step, value) {
    if (!this.of.has(name)) {
      if (this.of.size >= MOST_NAMES) return;
      this.of.set(name, []);
    }
    const list = this.of.get(name);
    list.push([step, value]);
    if (list.length > HISTORY) this.of.set(name, list.filter((_, at) => at % 2 === 0));
  }
}

export class Store {
  constructor() {
    this.lanes = new Lanes();
    this.steps = new Columns();
    this.spans = new Spans(this.lanes);
    this.older = new Spans(this.lanes, 20_001);
    this.reset();
  }

  reset() {
    this.run = null;
    this.state = { phase: "unknown", step: 0, steps: 0 };
    this.workers = [];
    this.validations = [];
    this.marks = [];
    this.samples = [];
    this.tensors = null;
    this.numbers = null;
    this.roundsRecorded = false;
    this.problem = "";
    this.norms = { gradient: new History(), update: new History() };
    this.numberHistory = new History();
    this.steps.clear();
    this.spans.clear();
    this.older.clear();
  }

  /**
   * @param {string} name of a message @param {any} data
   * @returns {readonly string[]} which parts have changed
   */
  take(name, data) {
    switch (name) {
      case "snapshot":
        return this.begin(data);
      case "steps":
        this.steps.add(data);
        return ["steps"];
      case "validations":
        this.addValidations(data);
        return ["steps"];
      case "state":
        this.state = data;
        this.problem = data.problem || "";
        return ["state", "samples"];
      case "workers":
        this.setWorkers(data);
        return ["workers"];
      case "spans":
        this.spans.add(data);
        this.roundsRecorded = true;
        return ["spans"];
      case "marks":
        this.addMarks(data);
        return ["marks"];
      case "samples":
        this.addSamples(data);
        return ["samples"];
      case "tensors":
        this.addTensors(data);
        return ["tensors"];
      case "numbers":
        this.addNumbers(data);
        return ["numbers"];
      default:
        return [];
    }
  }

  begin(data) {
    this.reset();
    this.run = data.run && Object.keys(data.run).length ? data.run : null; // null: nothing is known yet
    this.roundsRecorded = data.rounds_recorded;
    this.problem = data.state.problem || "";
    this.state = data.state;
    this.setWorkers(data.workers || []);
    this.steps.add(data.steps);
    this.addValidations(data.validations || []);
    this.spans.add(data.spans || []);
    this.spans.complete = this.spans.length < SNAPSHOT_SPANS;
    this.addMarks(data.marks || []);
    this.addSamples(data.samples || []);
    for (const tensors of data.earlier?.tensors || []) this.addTensors(tensors);
    for (const numbers of data.earlier?.numbers || []) this.addNumbers(numbers);
    if (data.tensors) this.addTensors(data.tensors);
    if (data.numbers) this.addNumbers(data.numbers);
    return ["run", "state", "steps", "workers", "spans", "marks", "samples", "tensors", "numbers"];
  }

  setWorkers(workers) {
    this.workers = workers;
    for (const { epoch, worker, name } of workers) {
      const moved = this.lanes.learn(epoch, worker, name);
      if (moved) for (const spans of [this.spans, this.older]) spans.move(...moved);
    }
  }

  addValidations(list) {
    for (const one of list) {
      while (this.validations.length && this.validations[this.validations.length - 1][0] >= one[0]) {
        this.validations.pop();
      }
      this.validations.push(one);
    }
    if (this.validations.length > MOST_VALIDATIONS) {
      this.validations = this.validations.filter((_, at) => at % 2 === 0);
    }
  }

  addMarks(list) {
    for (const mark of list) this.marks.push({ ...mark, group: groupOf(mark) });
    if (this.marks.length > MOST_MARKS) this.marks.splice(0, this.marks.length - MOST_MARKS);
  }

  addSamples(list) {
    for (const sample of list) {
      this.samples = this.samples.filter((old) => old.step < sample.step);
      this.samples.push(sample);
    }
    // The first one stays: it is what the newest is compared with.
    while (this.samples.length > MOST_SAMPLES) this.samples.splice(1, 1);
  }

  addTensors(tensors) {
    this.tensors = tensors;
    tensors.names.forEach((name, at) => {
      if (tensors.gradient) this.norms.gradient.add(name, tensors.step, tensors.gradient[at]);
      this.norms.update.add(name, tensors.step, tensors.update[at]);
    });
  }

  addNumbers(numbers) {
    const before = this.numbers ? this.numbers.histograms : {};
    this.numbers = { ...numbers, histograms: added(before, numbers.histograms) };
    for (const [name, value] of Object.entries(numbers.numbers)) {
      this.numberHistory.add(name, numbers.step, value);
    }
  }

  /** @returns {number} the newest moment that is known of, in seconds since 1970 */
  get now() {
    return Math.max(this.spans.newest, this.state.time || 0, this.lastStepTime || 0);
  }

  get lastStepTime() {
    const { time } = this.steps;
    return time.length ? time[time.length - 1] : null;
  }

  /** @returns {number} the first moment that is known of; times are shown from there */
  get start() {
    const first = [this.marks.length ? this.marks[0].time : null, this.steps.time.find((t) => t !== null)];
    const known = first.filter((time) => time !== null && time !== undefined);
    if (this.spans.length) known.push(this.spans.begin[this.spans.at(0)]);
    return known.length ? Math.min(...known) : 0;
  }
}

/** Counts of what happened since the last message are added to those before. */
function added(before, histograms) {
  const sums = {};
  for (const [name, counts] of Object.entries(histograms || {})) {
    const sum = new Map(Object.entries(before[name] || {}));
    for (const [label, count] of Object.entries(counts)) {
      if (sum.size < 200 || sum.has(label)) sum.set(label, (sum.get(label) || 0) + count);
    }
    sums[name] = Object.fromEntries(sum);
  }
  return { ...before, ...sums };
}
