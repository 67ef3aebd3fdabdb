// What the model of each checkpoint invents: the newest beside earlier ones.

import { byId, el } from "./dom.js";
import { integer } from "./format.js";

const COLUMNS = 3;
const ROWS = 10;

export class Samples {
  /** @param {import("./store.js").Store} store */
  constructor(store) {
    this.store = store;
    this.drawn = "";
  }

  draw() {
    const { samples, state } = this.store;
    const remark = (state && state.samples_remark) || "";
    const chosen = spread(samples, COLUMNS);
    const key = JSON.stringify([chosen, remark]);
    if (key === this.drawn) return;
    this.drawn = key;
    const place = byId("samples");
    if (!chosen.length) {
      place.replaceChildren(
        remark ? el("p", { class: "missing" }, `None: ${remark}.`) :
        remark
          ? el("p", { class: "missing" }, `No samples: ${remark}.`)
          : el("p", { class: "missing" }, "Nothing yet: what the model invents is drawn from checkpoints. ",
              el("code", {}, "--checkpoint-every 100"), " saves more of them."),
      );
      return;
    }
    place.replaceChildren(
      ...chosen.map((sample, at) =>
        el("div", { class: at === chosen.length - 1 ? "sample newest" : "sample" },
          el("h3", {}, `step ${integer(sample.step)}`),
          el("ul", {}, ...sample.texts.slice(0, ROWS).map((text) =>
            el("li", {}, text === "" ? el("span", { class: "weak" }, "(empty)") : toAnatomy(sample.step, text))))),
      ),
    );
  }
}

/** A document, with the way to how the model came to it. */
function toAnatomy(step, text) {
  const query = new URLSearchParams({ step, document: text });
  return el("a", { href: `/anatomy?${query}`, title: "its anatomy" }, text);
}

/** The first, the last, and some in between. */
function spread(list, many) {
  if (list.length <= many) return list;
  return Array.from({ length: many }, (_, at) => list[Math.round((at * (list.length - 1)) / (many - 1))]);
}
