// The table of workers.

import { attribute, byId, el, keyed, say } from "./dom.js";
import { bytes, byName, duration, integer, percent } from "./format.js";

const COLUMNS = [
  ["Worker", ""], ["State", ""], ["Engine", ""], ["Host", ""], ["Documents/s", "number"],
  ["In flight", "number"], ["Heard of", "number"], ["Round trip", "number"], ["Bytes to it", "number"],
  ["Bytes from it", "number"], ["Computing · wire · waiting", ""], ["Control", "control"],
];
const SIGNS = {
  joining: "◌", ready: "○", computing: "●", left: "–", lost: "✕", silent: "!", expelled: "⊘",
};
const GONE = ["left", "lost", "expelled"];
const MOST_GONE = 8; // rows of workers that are gone

export class Workers {
  /** @param {import("./store.js").Store} store */
  constructor(store) {
    this.store = store;
    const heads = COLUMNS.map(([name, kind]) => el("th", { scope: "col", class: kind || null }, name));
    this.body = el("tbody");
    this.table = el("table", { class: "workers" }, el("thead", {}, el("tr", {}, ...heads)), this.body);
    this.none = el("p", { class: "missing" }, "No worker has joined yet.");
    byId("workers").append(this.table, this.none);
  }

  /** @returns {any[]} those that are there, and a few of those that are gone and have not come back */
  rows() {
    const all = this.store.workers;
    const here = all.filter(({ state }) => !GONE.includes(state));
    const names = new Set(here.map(({ name }) => name));
    const gone = new Map();
    for (const worker of all) {
      const known = gone.get(worker.name);
      const newer = !known || worker.epoch - known.epoch || worker.worker - known.worker;
      if (GONE.includes(worker.state) && !names.has(worker.name) && newer > 0) gone.set(worker.name, worker);
    }
    const rows = [...here, ...[...gone.values()].slice(-MOST_GONE)];
    return rows.sort((a, b) => byName(a.name, b.name) || a.epoch - b.epoch || a.worker - b.worker);
  }

  draw() {
    const rows = this.rows();
    const there = this.store.workers.filter(({ state }) => !GONE.includes(state)).length;
    const gone = this.store.workers.length - there; // each time that one went
    this.none.hidden = rows.length > 0;
    this.table.hidden = !rows.length;
    const names = new Set(this.store.workers.map(({ name }) => name)).size;
    const count = there ? `${integer(there)} here${gone ? `, gone ${integer(gone)} times` : ""}` : `${integer(names)} took part`;
    say(byId("workers-count"), rows.length ? `· ${count}` : "");
    attribute(this.table, "data-control", this.store.run?.control ? "yes" : null);
    keyed(this.body, rows, { key: ({ epoch, worker }) => `${epoch}-${worker}`, make: row, update: fill });
  }
}

function row(worker) {
  const cells = COLUMNS.map(([, kind], at) => {
    if (at === 0) return el("th", { scope: "row" });
    if (kind === "control") {
      return el("td", { class: "control", "data-worker": worker.worker, "data-name": worker.name, "data-epoch": worker.epoch });
    }
    return el("td", { class: kind || null });
  });
  cells[10].append(shares());
  return el("tr", {}, ...cells);
}

function shares() {
  const part = (kind) => el("i", { class: kind });
  return el("div", { class: "shares" }, el("span", { class: "stack", "aria-hidden": "true" },
    part("computing"), part("wire"), part("waiting")), el("span", { class: "words" }, "–"));
}

function fill(element, worker) {
  const gone = GONE.includes(worker.state);
  const cells = element.children;
  attribute(element, "data-state", worker.state);
  const of = (number, text) => (number === null || number === undefined ? "–" : text(number));
  const texts = [
    worker.name, `${SIGNS[worker.state] || ""} ${worker.state}`, worker.engine, worker.host || "–",
    gone ? "–" : of(worker.documents_per_second, (n) => integer(n)), gone ? "–" : integer(worker.in_flight),
    gone || worker.silent_for === null ? "–" : `${worker.silent_for < 1 ? "< 1 s" : duration(worker.silent_for)} ago`,
    of(worker.round_trip, duration), of(worker.bytes_sent, bytes), of(worker.bytes_received, bytes),
  ];
  texts.forEach((text, at) => say(cells[at], text));
  const known = !gone && worker.computing !== null && worker.computing !== undefined;
  const bar = cells[10].firstElementChild;
  const parts = ["computing", "wire", "waiting"].map((name) => (known ? worker[name] : 0));
  [...bar.firstElementChild.children].forEach((part, at) => {
    part.style.width = `${Math.max(0, Math.min(1, parts[at])) * 100}%`;
  });
  say(bar.lastElementChild, known ? parts.map(percent).join(" · ") : "–");
}
