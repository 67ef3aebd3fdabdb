// The page of a run: messages come in, and what they change is drawn, no more often than it takes
// little of the processor.

import { Charts } from "./charts.js";
import { byId } from "./dom.js";
import { Header } from "./header.js";
import { Marks } from "./marks.js";
import { Numbers } from "./numbers.js";
import { closeOutside, openRound } from "./round.js";
import { Samples } from "./samples.js";
import { drawSettings } from "./settings.js";
import { Store } from "./store.js";
import { follow } from "./stream.js";
import { Tensors } from "./tensors.js";
import { Timeline } from "./timeline.js";
import { Workers } from "./workers.js";

const SHARE = 0.25; // of the time that drawing a part may take
const SLOWEST = 1000; // ms between two drawings of a part

/** A part of the page: drawn once, and again when what it shows has changed and it can be seen. */
class Part {
  /** @param {string} place id of its element @param {readonly string[]} of what it shows @param {() => void} draw */
  constructor(place, of, draw) {
    Object.assign(this, { of, draw, dirty: false, visible: true, drawn: false, next: 0, cost: 0 });
    if (place) {
      this.visible = false;
      new IntersectionObserver(([entry]) => {
        this.visible = entry.isIntersecting;
        if (this.visible) schedule();
      }, { rootMargin: "200px" }).observe(byId(place));
    }
  }

  /** @param {number} now @returns {boolean} whether it has to be drawn later */
  turn(now) {
    if (!this.dirty || (this.drawn && !this.visible)) return false;
    if (now < this.next) return true;
    this.dirty = false;
    this.drawn = store.run !== null;
    const begun = performance.now();
    this.draw();
    this.cost = performance.now() - begun;
    this.next = begun + Math.min(this.cost / SHARE, SLOWEST);
    return false;
  }
}

const store = new Store();
const marks = new Marks(store, () => touch(["marks"]));
const charts = new Charts(store, marks, () => touch(["axis"]));
const timeline = new Timeline(store, marks, {
  changed: () => touch(["view"]),
  open: (epoch, round) => openRound(epoch, round, store.start),
});
const header = new Header(store);
const workers = new Workers(store);
const samples = new Samples(store);
const tensors = new Tensors(store);
const numbers = new Numbers(store);
const parts = [
  new Part("", ["run"], () => begin()),
  new Part("", ["state", "steps"], () => header.draw()),
  new Part("timeline", ["spans", "state", "marks", "workers", "view", "theme"], () => timeline.draw()),
  new Part("loss", ["steps", "marks", "axis", "theme"], () => charts.drawLoss()),
  new Part("workers", ["workers"], () => workers.draw()),
  new Part("", ["marks"], () => marks.draw()),
  new Part("", ["samples", "state"], () => samples.draw()),
  new Part("rate", ["steps", "marks", "axis", "theme"], () => charts.drawRate()),
  new Part("bytes", ["steps", "marks", "axis", "theme"], () => charts.drawBytes()),
  new Part("tensors", ["tensors", "run"], () => tensors.draw()),
  new Part("numbers", ["numbers", "run"], () => numbers.draw()),
];
let scheduled = false;

/** @param {readonly string[]} changed */
function touch(changed) {
  for (const part of parts) if (part.of.some((one) => changed.includes(one))) part.dirty = true;
  schedule();
}

function schedule() {
  if (scheduled || document.hidden) return;
  scheduled = true;
  requestAnimationFrame(drawAll);
}

function drawAll() {
  scheduled = false;
  const now = performance.now();
  const later = parts.filter((part) => part.turn(now)).map((part) => part.next - now);
  if (later.length) setTimeout(schedule, Math.max(0, Math.min(...later)));
}

function begin() {
  header.drawRun();
  drawSettings(store);
  const control = Boolean(store.run?.control);
  byId("control").hidden = !control;
  if (control && !begin.control) {
    begin.control = import("./control.js").then(({ Control }) => {
      const buttons = new Control(store);
      parts.push(new Part("", ["run", "state", "workers"], () => buttons.draw()));
      touch(["workers"]);
    }).catch(() => {
      byId("control").hidden = true;
    });
  }
}

addEventListener("themechange", () => {
  charts.colours();
  timeline.colours();
  touch(["theme"]);
});
document.addEventListener("visibilitychange", schedule);
closeOutside();
follow(
  (name, data) => touch(store.take(name, data)),
  (status, tries) => header.connection(status, tries),
);

/** For measurements and tests. */
globalThis.page = { store, charts, timeline, parts, touch };
