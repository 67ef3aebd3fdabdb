// Norm of the gradient and of the update, tensor by tensor, with how they went.

import { byId, el, keyed, say } from "./dom.js";
import { integer, short } from "./format.js";
import { redraw, sparkline } from "./sparkline.js";

export class Tensors {
  /** @param {import("./store.js").Store} store */
  constructor(store) {
    this.store = store;
    const heads = [["Tensor", ""], ["Gradient", "number"], ["", ""], ["Update", "number"], ["", ""]];
    const spoken = ["", "", "its course", "", "its course"];
    this.body = el("tbody");
    const cells = heads.map(([name, kind], at) =>
      el("th", { scope: "col", class: kind || null }, name || el("span", { class: "hidden-text" }, spoken[at])));
    this.table = el("table", {}, el("caption", {}, "Euclidean norms of the newest update, and how they went"),
      el("thead", {}, el("tr", {}, ...cells)), this.body);
    this.none = el("p", { class: "missing" });
    byId("tensors").append(this.table, this.none);
  }

  draw() {
    const { tensors, norms } = this.store;
    this.table.hidden = !tensors;
    this.none.hidden = Boolean(tensors);
    if (!tensors) {
      explain(this.none, missing(this.store, "norms of tensors"));
      return;
    }
    say(byId("tensors-step"), `· step ${integer(tensors.step)}`);
    const rows = tensors.names.map((name, at) => ({
      name,
      values: [tensors.gradient ? tensors.gradient[at] : null, tensors.update[at]],
      courses: [norms.gradient.of.get(name) || [], norms.update.of.get(name) || []],
    }));
    keyed(this.body, rows, {
      key: ({ name }) => name,
      make: ({ name }) => el("tr", {}, el("th", { scope: "row" }, el("code", {}, name)),
        el("td", { class: "number" }), el("td", {}, sparkline([], "c0")),
        el("td", { class: "number" }), el("td", {}, sparkline([], "c1"))),
      update: (element, { values, courses }) => {
        values.forEach((value, at) => {
          say(element.children[1 + 2 * at], short(value));
          redraw(element.children[2 + 2 * at].firstElementChild, courses[at]);
        });
      },
    });
  }
}

/**
 * Why something is not there, and what helps.
 * @param {import("./store.js").Store} store @param {string} what @param {readonly string[]} levels that have it
 * @returns {Node[]}
 */
export function missing(store, what, levels = ["rounds", "full"]) {
  const say = (text) => document.createTextNode(text);
  if (!store.run) return [say("Nothing is recorded yet.")];
  const events = store.run.settings?.events;
  if (levels.includes(events) || (store.roundsRecorded && levels.length > 1)) return [say(`The record has no ${what} so far.`)];
  const flags = levels.flatMap((level, at) => [say(at ? " or " : ""), el("code", {}, `--events ${level}`)]);
  return [say(`Recorded with --events ${events || "summary"}: no ${what}. `), ...flags, say(` record${levels.length > 1 ? "" : "s"} ${levels.length > 1 ? "them" : "it"}.`)];
}

/** Shows why, if it is not shown already. @param {Element} place @param {Node[]} why */
export function explain(place, why) {
  if (place.textContent !== why.map((part) => part.textContent).join("")) place.replaceChildren(...why);
}
