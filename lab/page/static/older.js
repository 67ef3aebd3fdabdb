// Windows of the timeline that are older than what the page keeps: asked for one at a time.

import { integer } from "./format.js";

const PAUSE = 150; // ms without another wish, before the server is asked

export class Older {
  /** @param {import("./store.js").Store} store @param {() => void} changed */
  constructor(store, changed) {
    Object.assign(this, { store, changed });
    this.window = null; // what lies in store.older
    this.note = "";
    this.asked = "";
  }

  /** @param {number} begin @param {number} end @returns {boolean} whether that is there */
  covers(begin, end) {
    return this.window !== null && this.window[0] <= begin && this.window[1] >= end;
  }

  /** @param {number} begin @param {number} end */
  ask(begin, end) {
    const pad = (end - begin) / 2;
    const key = `${begin.toFixed(6)} ${end.toFixed(6)}`;
    if (key === this.asked) return;
    this.asked = key;
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.fetch(begin - pad, end + pad), PAUSE);
  }

  async fetch(begin, end) {
    const { older } = this.store;
    try {
      const answer = await fetch(`/api/spans?begin=${begin}&end=${end}`);
      const found = await answer.json();
      if (!answer.ok) throw new Error(found.error || `status ${answer.status}`);
      older.clear();
      older.add(found.spans);
      this.window = [begin, end];
      const many = integer(found.spans.length);
      this.note = found.truncated ? ` · only ${many} shards around it: zoom in` : "";
    } catch (error) {
      this.note = ` · the record cannot be read: ${error.message}`;
    }
    this.changed();
  }
}
