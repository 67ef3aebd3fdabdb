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
    const { tensors, norms, roundsRecorded } = this.store;
    this.table.hidden = !tensors;
    this.none.hidden = Boolean(tensors);
    if (!tensors) {
      this.none.replaceChildren(...missing(roundsRecorded, "norms of tensors"));
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

/** @param {boolean} recorded @param {string} what @returns {Node[]} why there is nothing, and what helps */
export function missing(recorded, what) {
  if (recorded) return [document.createTextNode(`None yet: the record has no ${what} so far.`)];
  return [
    document.createTextNode(`Recorded with --events summary: no ${what}. `),
    el("code", {}, "--events rounds"), document.createTextNode(" or "), el("code", {}, "--events full"),
    document.createTextNode(" records them."),
  ];
}
