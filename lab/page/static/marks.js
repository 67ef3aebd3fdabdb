// Events as marks on the charts: which group each kind belongs to, and the buttons that choose.

import { attribute, byId, el, keyed, say } from "./dom.js";
import { duration, integer } from "./format.js";

/** @typedef {{time: number, step: number, kind: string, worker: number, name: string, text: string,
 *   warning: boolean, group: string}} Mark */

/** Of each group: what it is called, its colour, and its sign, for who cannot tell the colours. */
export const GROUPS = {
  workers: { name: "joined, left", colour: "c2", sign: "▲", marker: "triangle" },
  faults: { name: "lost, faults", colour: "c1", sign: "✕", marker: "x" },
  stragglers: { name: "helped", colour: "c3", sign: "◆", marker: "diamond" },
  dropped: { name: "not used", colour: "c3", sign: "◇", marker: "diamond" },
  checkpoints: { name: "saved", colour: "c5", sign: "■", marker: "square" },
  control: { name: "by hand", colour: "c4", sign: "●", marker: "circle" },
  other: { name: "other", colour: "none", sign: "▼", marker: "inverted_triangle" },
};
const KINDS = {
  joined: "workers", ready: "workers", left: "workers",
  lost: "faults", silent: "faults", expelled: "faults", fault: "faults", failed: "faults",
  difference: "faults", numbers_failed: "faults", other_platform: "faults", unverified: "faults",
  backed_up: "stragglers", dropped: "dropped",
  controlled: "control", control_refused: "control", paused: "control", resumed: "control", learning_rate_changed: "control",
};
const FREQUENT = ["dropped", "checkpoints"]; // listed only where they are drawn, too
const SHOWN = 200; // of the list

/** @param {{kind: string}} mark @returns {string} name of its group */
export function groupOf(mark) {
  return KINDS[mark.kind] || (/^(checkpoint|deletion)/.test(mark.kind) ? "checkpoints" : "other");
}

/** The buttons, the list of what happened, and what is to be drawn. */
export class Marks {
  /** @param {import("./store.js").Store} store @param {() => void} changed */
  constructor(store, changed) {
    this.store = store;
    this.hidden = new Set(["dropped", "checkpoints", "other"]);
    this.buttons = new Map();
    for (const [group, { name, colour, sign }] of Object.entries(GROUPS)) {
      const count = el("span", { class: "count" }, "0");
      const press = () => {
        if (!this.hidden.delete(group)) this.hidden.add(group);
        attribute(button, "aria-pressed", String(!this.hidden.has(group)));
        changed();
      };
      const pressed = String(!this.hidden.has(group));
      const button = el(
        "button",
        { type: "button", class: "button small", "aria-pressed": pressed, "data-group": group, onclick: press },
        el("span", { class: `sign ${colour}`, "aria-hidden": "true" }, sign),
        ` ${name} `,
        count,
      );
      this.buttons.set(group, { button, count });
      byId("mark-groups").append(button);
    }
  }

  /** @returns {Mark[]} those that are to be seen */
  get shown() {
    return this.store.marks.filter((mark) => !this.hidden.has(mark.group));
  }

  draw() {
    const counts = {};
    for (const { group } of this.store.marks) counts[group] = (counts[group] || 0) + 1;
    for (const [group, { count }] of this.buttons) say(count, integer(counts[group] || 0));
    this.list();
  }

  list() {
    const { store } = this;
    const list = byId("happened");
    const left = FREQUENT.filter((group) => this.hidden.has(group));
    const marks = store.marks.filter(({ group }) => !left.includes(group)).slice(-SHOWN).reverse();
    const { start } = store;
    const seen = new Map();
    const items = marks.map((mark) => {
      const base = `${mark.time} ${mark.kind} ${mark.text}`;
      seen.set(base, (seen.get(base) || 0) + 1);
      return { mark, key: `${base} ${seen.get(base)}` };
    });
    keyed(list, items, {
      key: (item) => item.key,
      make: ({ mark }) => {
        const { colour, sign } = GROUPS[mark.group];
        return el(
          "li",
          { class: mark.warning ? "warning" : null },
          el("span", { class: "when" }, duration(Math.max(0, mark.time - start))),
          el("span", { class: `sign ${colour}`, "aria-hidden": "true" }, sign),
          el("span", {}, mark.text),
        );
      },
    });
    if (!items.length && !list.children.length) {
      list.append(el("li", { class: "missing" }, "Nothing has happened yet that an event tells."));
    }
  }
}
