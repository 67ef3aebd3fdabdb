// The three charts of a run: loss, documents per second, bytes per step; by step, second or bytes.

import { Chart } from "./chart.js";
import { byId, say } from "./dom.js";
import { byteUnit, bytes, decimal, rate, short } from "./format.js";
import { growth, meanWindow, placeOf, places, runningMean } from "./series.js";

export class Charts {
  /** @param {import("./store.js").Store} store @param {import("./marks.js").Marks} marks @param {() => void} changed */
  constructor(store, marks, changed) {
    this.store = store;
    this.marks = marks;
    this.axis = "step";
    for (const input of document.querySelectorAll("input[name=axis]")) {
      if (input.checked) this.axis = input.value; // a reload keeps it
      input.addEventListener("change", () => {
        this.axis = input.value;
        changed();
      });
    }
    this.loss = new Chart(byId("loss"), {
      title: "Loss", y: "loss (nats per token)", format: (n) => decimal(n, 4),
      lines: [
        { name: "of each step", colour: "c0", width: 1, alpha: 0.3, unread: true },
        { name: "running mean", colour: "c0", width: 2.2 },
        { name: "validation", colour: "c1", width: 1.6, dash: [6, 3], points: true },
      ],
    });
    this.rate = new Chart(byId("rate"), {
      title: "Documents per second", y: "documents/s", format: (n) => rate(n, "documents/s"),
      lines: [{ name: "documents per second", colour: "c2", width: 1.8 }],
    });
    this.bytes = new Chart(byId("bytes"), {
      title: "Bytes per step", y: "bytes", format: (n) => bytes(n),
      lines: [
        { name: "sent to workers", colour: "c0", width: 1.8 },
        { name: "received from workers", colour: "c1", width: 1.8, dash: [6, 3] },
      ],
    });
    this.all = [this.loss, this.rate, this.bytes];
  }

  colours() {
    for (const chart of this.all) chart.colours();
  }

  /** @returns {{x: any, at: number[], marks: any[]}} the common axis */
  common() {
    const { steps } = this.store;
    const axis = places(steps, this.axis);
    const marks = this.marks.shown.map((mark) => ({ mark, x: placeOf(steps.step, axis.x, mark.step) }));
    return { x: axis, at: axis.x, marks };
  }

  drawLoss() {
    const { steps, validations } = this.store;
    const { x, at, marks } = this.common();
    const held = validations.filter(([step]) => !steps.length || step >= steps.step[0]);
    const first = steps.length ? steps.loss[0] : 4;
    this.loss.draw({
      x,
      marks,
      high: 1.5 * first, // a run whose loss explodes is cut off there, as in the report
      data: [
        { x: at, y: steps.loss },
        { x: at, y: runningMean(steps, meanWindow(steps)) },
        { x: held.map(([step]) => placeOf(steps.step, at, step)), y: held.map(([, loss]) => loss) },
      ],
    });
  }

  drawRate() {
    const { steps } = this.store;
    const { x, at, marks } = this.common();
    const clock = steps.time.length && steps.time.every((time) => time !== null) ? steps.time : steps.seconds;
    const whole = steps.length ? clock[steps.length - 1] - clock[0] : 0;
    const y = growth(steps.documents, clock, Math.max(0.5, whole / 100));
    this.rate.draw({ x, marks, from: 0, data: [{ x: at, y }] });
  }

  drawBytes() {
    const { steps, state } = this.store;
    const { x, at, marks } = this.common();
    const window = Math.max(1, meanWindow(steps) / 4);
    const pair = [steps.sent, steps.received].map((sum) => growth(sum, steps.step, window));
    const most = pair.flat().reduce((high, n) => (n > high ? n : high), 0);
    const unit = byteUnit(most);
    this.bytes.how.format = (n) => bytes(n * unit.size);
    this.bytes.draw({
      x,
      marks,
      from: 0,
      label: `${unit.name} per step`,
      data: pair.map((y) => ({ x: at, y: y.map((n) => n / unit.size) })),
    });
    const ratio = state.compression_ratio;
    say(byId("ratio"), ratio && ratio !== 1 ? `· gradients ${short(ratio)} times smaller than whole ones` : "");
  }

  /** How many points are drawn, for tests. @returns {Object<string, number>} */
  get points() {
    return { steps: this.store.steps.length, validations: this.store.validations.length };
  }
}
