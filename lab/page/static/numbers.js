// What a strategy tells of itself: numbers with their course, and histograms.

import { byId, el, keyed, say } from "./dom.js";
import { byName, cut, integer, percent, short } from "./format.js";
import { redraw, sparkline } from "./sparkline.js";
import { explain, missing } from "./tensors.js";

const MOST_BARS = 24;

export class Numbers {
  /** @param {import("./store.js").Store} store */
  constructor(store) {
    this.store = store;
    this.body = el("tbody");
    this.table = el("table", {}, el("caption", {}, "Newest values, and how they went"), this.body);
    this.bars = el("div", { class: "histograms" });
    this.none = el("p", { class: "missing" });
    byId("numbers").append(this.table, this.bars, this.none);
  }

  draw() {
    const { numbers, numberHistory } = this.store;
    const values = numbers ? Object.entries(numbers.numbers) : [];
    const histograms = numbers ? Object.entries(numbers.histograms) : [];
    this.none.hidden = values.length + histograms.length > 0;
    this.table.hidden = !values.length;
    if (!this.none.hidden) explain(this.none, this.why());
    say(byId("numbers-step"), numbers ? `· step ${integer(numbers.step)}` : "");
    keyed(this.body, values, {
      key: ([name]) => name,
      make: ([name]) => el("tr", {}, el("th", { scope: "row" }, readable(name)), el("td", { class: "number" }),
        el("td", {}, sparkline([], "c3"))),
      update: (element, [name, value]) => {
        say(element.children[1], short(value));
        redraw(element.children[2].firstElementChild, numberHistory.of.get(name) || []);
      },
    });
    keyed(this.bars, histograms, { key: ([name]) => name, make: histogram, update: fill });
  }

  why() {
    const { run, roundsRecorded } = this.store;
    if (!run || !roundsRecorded) return missing(this.store, "numbers of the strategy");
    return [document.createTextNode(`The strategy ${run.strategy} has told no numbers of its own.`)];
  }
}

function readable(name) {
  return cut(name.replaceAll("_", " "), 60);
}

function histogram([name]) {
  return el("table", { class: "histogram" }, el("caption", {}, readable(name)), el("tbody"));
}

function fill(element, [, counts]) {
  const all = Object.entries(counts).sort((a, b) => byName(a[0], b[0])).slice(0, MOST_BARS);
  const total = all.reduce((sum, [, count]) => sum + count, 0);
  const most = Math.max(1, ...all.map(([, count]) => count));
  keyed(element.lastElementChild, all, {
    key: ([label]) => label,
    make: ([label]) => el("tr", {}, el("th", { scope: "row" }, cut(label, 30)),
      el("td", { class: "bar", "aria-hidden": "true" }, el("i")), el("td", { class: "number" })),
    update: (row, [, count]) => {
      row.children[1].firstElementChild.style.width = `${(count / most) * 100}%`;
      say(row.children[2], `${integer(count)} (${percent(total ? count / total : 0)})`);
    },
  });
}
