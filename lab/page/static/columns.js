// The steps of a run as columns of numbers, thinned so that an hour takes no more than a minute.

const NAMES = ["step", "loss", "time", "seconds", "documents", "sent", "received"];
const MOST = 10_000; // points; then every other one goes

/** Points of a run by step. All but step, loss and time are sums since the start. */
export class Columns {
  constructor() {
    this.clear();
  }

  clear() {
    for (const name of NAMES) this[name] = [];
    this.stride = 1; // of so many points that come, one is kept
    this.come = 0;
    this.spare = false; // is the last point there only because it is the newest?
    this.changes = (this.changes || 0) + 1;
  }

  /** @returns {number} how many points there are */
  get length() {
    return this.step.length;
  }

  /** @param {Object<string, (number|null)[]>} batch columns of equal length */
  add(batch) {
    const many = batch.step ? batch.step.length : 0;
    for (let at = 0; at < many; at += 1) this.addOne(batch, at);
    if (many) this.changes += 1;
  }

  addOne(batch, at) {
    if (this.length && batch.step[at] <= this.step[this.length - 1]) this.cutBack(batch.step[at]);
    if (this.spare) for (const name of NAMES) this[name].pop();
    for (const name of NAMES) {
      const value = batch[name] ? batch[name][at] : null;
      this[name].push(value === undefined ? null : value);
    }
    this.spare = this.come % this.stride !== 0;
    this.come += 1;
    if (this.length > MOST) this.thin();
  }

  /** A run that is resumed does some steps again: what came later is gone. */
  cutBack(step) {
    let keep = this.length;
    while (keep && this.step[keep - 1] >= step) keep -= 1;
    for (const name of NAMES) this[name].length = keep;
    this.spare = false;
  }

  thin() {
    const last = this.length - 1;
    for (const name of NAMES) {
      this[name] = this[name].filter((_, at) => at % 2 === 0 || at === last);
    }
    this.spare = last % 2 === 1;
    this.stride *= 2;
  }
}
