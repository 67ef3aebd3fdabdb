// Buttons: what may be done to the run and to its workers, where the page may do that (--control).
// A button asks; what has come of it is in the record, and comes back as any event does.

import { attribute, byId, el, say } from "./dom.js";

const OURS = /^worker-[1-9]\d*$/; // names of workers that the launcher has started
const FACTORS = [1, 2, 4, 10, 50];
const OVER = ["finished", "stopped", "failed", "killed", "unknown"];
const THERE = ["joining", "ready", "computing"];

/** Asks the page's server, with a word that no other page can have. */
class Asker {
  constructor() {
    this.word = null;
  }

  /** @param {object} plain @returns {Promise<{done: boolean, text: string}>} */
  async ask(plain) {
    try {
      let response = await this.post(plain);
      if (response.status === 403) { // the server is another one: it has another word
        this.word = null;
        response = await this.post(plain);
      }
      const told = await response.json();
      return { done: response.ok, text: told.text || told.error || `status ${response.status}` };
    } catch (error) {
      return { done: false, text: error.told || "the page's server does not answer" };
    }
  }

  async post(plain) {
    if (this.word === null) {
      const response = await fetch("/api/control");
      const told = await response.json();
      if (!response.ok) throw Object.assign(new Error("refused"), { told: told.error });
      this.word = told.token;
    }
    return fetch("/api/control", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Control-Token": this.word },
      body: JSON.stringify(plain),
    });
  }
}

export class Control {
  /** @param {import("./store.js").Store} store */
  constructor(store) {
    this.store = store;
    this.asker = new Asker();
    this.pause = this.button("Pause", () => ({ verb: this.paused ? "resume" : "pause" }), { id: "control-pause" });
    const save = this.button("Save a checkpoint", () => ({ verb: "save" }), { id: "control-save" });
    const add = this.button("Add a worker", () => ({ verb: "add" }), { id: "control-add" });
    this.rate = el("input", {
      id: "control-rate", type: "text", inputmode: "decimal", autocomplete: "off",
      "aria-describedby": "control-rate-help",
    });
    const change = el("button", { type: "submit", class: "button" }, "Change");
    const form = el("form", { class: "rate", onsubmit: (event) => this.changeRate(event) },
      el("label", { for: "control-rate" }, "Learning rate"), this.rate, change);
    this.said = el("output", { id: "control-said", class: "said" });
    this.all = [this.pause, save, add, change];
    byId("control").classList.add("card");
    byId("control").replaceChildren(
      el("div", { class: "buttons" }, this.pause, save, add, form), this.said,
      el("p", { id: "control-rate-help", class: "hidden-text" },
        "As at the first step of the run: it falls to zero from there. It changes the bits of the run; nothing else here does."),
    );
  }

  get paused() {
    return this.store.state.phase === "paused";
  }

  /** @param {string} text @param {() => object} plain what is asked for @param {object} [more] */
  button(text, plain, more = {}) {
    return el("button", { type: "button", class: "button", ...more, onclick: () => this.do(plain()) }, text);
  }

  /** @param {object} plain @returns {Promise<boolean>} whether it was done */
  async do(plain) {
    const { done, text } = await this.asker.ask(plain);
    this.tell(`${text[0].toUpperCase()}${text.slice(1)}.`, done);
    return done;
  }

  tell(text, done) {
    attribute(this.said, "data-done", done ? "yes" : "no");
    say(this.said, text);
  }

  async changeRate(event) {
    event.preventDefault();
    const written = this.rate.value.trim().replace(",", ".");
    const value = Number(written);
    if (written === "" || !Number.isFinite(value)) this.tell("A learning rate is a number, such as 0.005.", false);
    else if (await this.do({ verb: "learning_rate", value })) this.rate.value = "";
  }

  draw() {
    const over = OVER.includes(this.store.state.phase);
    for (const button of this.all) button.disabled = over;
    say(this.pause, this.paused ? "Go on" : "Pause");
    attribute(this.pause, "data-paused", this.paused ? "yes" : null);
    attribute(this.rate, "placeholder", this.base());
    const workers = new Map(this.store.workers.map((worker) => [`${worker.epoch}-${worker.worker}`, worker]));
    for (const cell of document.querySelectorAll("td[data-worker]")) {
      const worker = workers.get(`${cell.dataset.epoch}-${cell.dataset.worker}`);
      if (worker) this.drawRow(cell, worker, over);
    }
  }

  /** @returns {string} the rate from which that of now falls */
  base() {
    const { learning_rate: now, step, steps } = this.store.state;
    if (!now || !steps || step < 1) return "";
    return String(Number((now / (1 - (step - 1) / steps)).toPrecision(4)));
  }

  drawRow(cell, worker, over) {
    if (!cell.buttons) cell.buttons = this.row(cell, worker.name);
    const { kill, freeze, slow, cut, remove } = cell.buttons;
    const there = THERE.includes(worker.state);
    const ours = OURS.test(worker.name) && (there || worker.frozen || worker.cut);
    cell.firstElementChild.hidden = !ours || over;
    say(freeze, worker.frozen ? "Thaw" : "Freeze");
    attribute(freeze, "aria-label", `${freeze.textContent} ${worker.name}`);
    say(cut, worker.cut ? "Restore" : "Cut");
    attribute(cut, "aria-label", `${cut.textContent} the link of ${worker.name}`);
    kill.disabled = remove.disabled = !there && !worker.frozen;
    Object.assign(cell, { frozen: worker.frozen, cut: worker.cut });
    if (document.activeElement !== slow) slow.value = String(nearest(worker.slowness));
  }

  row(cell, name) {
    const of = (verb, more = {}) => ({ verb, worker: name, ...more });
    const small = (text, label, plain) =>
      this.button(text, plain, { class: "button small", "aria-label": `${label} ${name}` });
    const choices = FACTORS.map((factor) =>
      el("option", { value: factor }, factor === 1 ? "usual speed" : `${factor} × as slow`));
    const slow = el("select", { class: "button small", "aria-label": `Speed of ${name}` }, ...choices);
    slow.addEventListener("change", () => this.do(of("slow", { value: Number(slow.value) })));
    const buttons = {
      kill: small("Kill", "Kill", () => of("kill")),
      freeze: small("Freeze", "Freeze", () => of(cell.frozen ? "thaw" : "freeze")),
      slow,
      cut: small("Cut", "Cut the link of", () => of(cell.cut ? "restore" : "cut")),
      remove: small("Remove", "Remove", () => of("remove")),
    };
    cell.replaceChildren(el("div", { class: "buttons" }, ...Object.values(buttons)));
    return buttons;
  }
}

/** @param {number} slowness @returns {number} the factor that is nearest to it */
function nearest(slowness) {
  return FACTORS.reduce((best, factor) => (Math.abs(factor - slowness) < Math.abs(best - slowness) ? factor : best));
}
