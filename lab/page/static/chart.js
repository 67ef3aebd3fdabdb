// One chart of lines over a common axis, drawn by BokehJS; reading values off it is our own, so
// that it works with a mouse, a finger and the keyboard alike.

import { colour, el, say, table, tableBehind } from "./dom.js";
import { short } from "./format.js";
import { GROUPS } from "./marks.js";
import { extent, find } from "./series.js";

/** @typedef {{name: string, colour: string, width?: number, alpha?: number, dash?: number[],
 *   points?: boolean, unread?: boolean}} Line unread: it is faint, and left out of tables */
/** @typedef {{x: readonly number[], y: readonly number[]}} Data */

const HEIGHT = 232;
const LEFT = 62; // pixels of the axis, reserved so that nothing moves
const RIGHT = 12;

/** @param {string} name @param {Object<string, *>} [values] @returns {*} a model of BokehJS */
function model(name, values = {}) {
  return new (globalThis.Bokeh.Models.get(name))(values);
}

export class Chart {
  /** @param {HTMLElement} host @param {{title: string, y: string, lines: Line[], format: (n: number) => string}} how */
  constructor(host, how) {
    this.how = how;
    this.x = { title: "step", unit: "" };
    this.data = how.lines.map(() => ({ x: [], y: [] }));
    this.marks = [];
    this.at = null;
    this.place = el("div", { class: "plot", tabindex: "0", role: "img", "aria-label": how.title });
    this.cross = el("div", { class: "cross", hidden: true });
    this.readout = el("p", { class: "readout", "aria-hidden": "true" });
    this.heard = el("p", { class: "hidden-text", "aria-live": "polite" });
    this.frame = el("div", { class: "frame" }, this.place, this.cross);
    this.behind = tableBehind(`${how.title} as a table`, () => this.table());
    host.append(this.legend(), this.frame, this.readout, this.heard, this.behind.element);
    this.listen();
    this.make();
  }

  legend() {
    const parts = this.how.lines.map((line) => {
      const kind = line.points ? "dotted" : line.unread ? "faint" : "";
      return el("span", { class: "key" }, el("i", { class: `swatch ${kind} ${line.colour}` }), line.name);
    });
    return el("p", { class: "legend" }, ...parts);
  }

  make() {
    if (!globalThis.Bokeh) {
      this.place.append(el("p", { class: "missing" }, "The chart library has not come; the table has the numbers."));
      return;
    }
    const range = () => model("Range1d", { start: 0, end: 1 });
    this.plot = model("Plot", {
      x_range: range(), y_range: range(), height: HEIGHT, sizing_mode: "stretch_width",
      min_border_left: LEFT, min_border_right: RIGHT, min_border_top: 8, min_border_bottom: 44,
      toolbar_location: null, outline_line_color: null, title: null,
      background_fill_color: null, border_fill_color: null, output_backend: "canvas",
    });
    const ticks = this.frame.clientWidth < 480 ? 3 : 7;
    this.xAxis = model("LinearAxis", { ticker: model("BasicTicker", { desired_num_ticks: ticks }) });
    this.yAxis = model("LinearAxis", { ticker: model("BasicTicker", { desired_num_ticks: 5 }), axis_label: this.how.y });
    this.xAxis.formatter = model("NumeralTickFormatter", { format: "0,0.[00]" });
    this.yAxis.formatter = model("NumeralTickFormatter", { format: "0,0.[00]" });
    this.plot.add_layout(this.xAxis, "below");
    this.plot.add_layout(this.yAxis, "left");
    this.grid = model("Grid", { dimension: 1, axis: this.yAxis });
    this.plot.add_layout(this.grid);
    this.makeMarks();
    this.sources = this.how.lines.map((line) => this.makeLine(line));
    this.colours();
    const { Document } = globalThis.Bokeh.require("document");
    const pages = new Document();
    pages.add_root(this.plot);
    globalThis.Bokeh.embed.add_document_standalone(pages, this.place);
  }

  makeLine(line) {
    const source = model("ColumnDataSource", { data: { x: [], y: [] } });
    const [x, y] = [{ field: "x" }, { field: "y" }];
    const glyph = model("Line", {
      x, y, line_width: line.width || 2, line_alpha: line.alpha || 1, line_dash: line.dash || [], line_join: "round",
    });
    const dots = line.points && model("Scatter", { x, y, size: 6, marker: { value: "circle" } });
    this.plot.add_renderers(this.drawn(source, glyph));
    if (dots) this.plot.add_renderers(this.drawn(source, dots));
    return { source, glyph, dots, line };
  }

  drawn(data_source, glyph) {
    return model("GlyphRenderer", { data_source, glyph, view: model("CDSView") });
  }

  makeMarks() {
    this.signs = Object.fromEntries(
      Object.entries(GROUPS).map(([group, { marker }]) => {
        const source = model("ColumnDataSource", { data: { x: [], y: [] } });
        const rule = model("VSpan", { x: { field: "x" }, line_width: 1, line_alpha: 0.55 });
        const sign = model("Scatter", { x: { field: "x" }, y: { field: "y" }, size: 8, marker: { value: marker } });
        this.plot.add_renderers(this.drawn(source, rule), this.drawn(source, sign));
        return [group, { source, rule, sign }];
      }),
    );
  }

  /** Takes the colours of the theme that is on. */
  colours() {
    if (!this.plot) return;
    const [text, rule] = [colour("weak"), colour("rule")];
    const font = "12px";
    for (const axis of [this.xAxis, this.yAxis]) {
      axis.setv({
        axis_label_text_color: text, major_label_text_color: text, axis_line_color: rule,
        major_tick_line_color: rule, minor_tick_line_color: null, axis_label_text_font_size: font,
        major_label_text_font_size: font, axis_label_text_font_style: "normal",
      });
    }
    this.grid.setv({ grid_line_color: rule, grid_line_alpha: 0.6 });
    for (const { glyph, dots, line } of this.sources) {
      glyph.line_color = colour(line.colour);
      if (dots) dots.setv({ fill_color: colour(line.colour), line_color: colour("card") });
    }
    for (const [group, { rule: line, sign }] of Object.entries(this.signs)) {
      const of = colour(GROUPS[group].colour);
      line.line_color = of;
      sign.setv({ fill_color: of, line_color: of });
    }
  }

  /**
   * @param {{x: {title: string, unit: string}, data: Data[], marks: {x: number, mark: any}[], from?: number,
   *   high?: number, label?: string}} what high: what lies above is cut off; from: where y begins
   */
  draw(what) {
    Object.assign(this, { x: what.x, data: what.data, marks: what.marks });
    this.behind.refresh();
    this.place.setAttribute("aria-label", this.words());
    if (!this.plot) return;
    const across = extent([...what.data.map(({ x }) => x)]) || [0, 1];
    const up = extent(what.data.map(({ y }) => y)) || [0, 1];
    this.left = Math.min(0, across[0]);
    this.right = across[1] > this.left ? across[1] : this.left + 1;
    const low = what.from ?? up[0];
    const high = Math.max(Math.min(up[1], what.high ?? Infinity), low);
    const margin = (high - low || Math.abs(high) || 1) * 0.06;
    this.bottom = what.from === undefined ? low - margin : low;
    this.top = high + 2 * margin;
    this.plot.x_range.setv({ start: this.left, end: this.right });
    this.plot.y_range.setv({ start: this.bottom, end: this.top });
    if (what.label && this.yAxis.axis_label !== what.label) this.yAxis.axis_label = what.label;
    if (this.xAxis.axis_label !== what.x.title) this.xAxis.axis_label = what.x.title;
    this.sources.forEach(({ source }, at) => {
      const { x, y } = what.data[at];
      source.data = { x: Float64Array.from(x), y: Float64Array.from(y) };
    });
    this.drawMarks();
    if (this.at !== null) this.read(this.at, false);
  }

  drawMarks() {
    const y = this.top - (this.top - this.bottom) * 0.03;
    for (const [group, { source }] of Object.entries(this.signs)) {
      const x = this.marks.filter(({ mark, x: place }) => mark.group === group && Number.isFinite(place)).map((m) => m.x);
      if (x.length || source.data.x.length) source.data = { x, y: x.map(() => y) };
    }
  }

  listen() {
    const { frame, place } = this;
    const toX = (event) => {
      const box = frame.getBoundingClientRect();
      const share = (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
      return this.left + Math.min(1, Math.max(0, share)) * (this.right - this.left);
    };
    frame.addEventListener("pointermove", (event) => this.read(toX(event), false));
    frame.addEventListener("pointerdown", (event) => this.read(toX(event), false));
    frame.addEventListener("pointerleave", () => this.read(null, false));
    place.addEventListener("blur", () => this.read(null, false));
    place.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const { x } = this.data[0];
    if (!x.length) return;
    const now = this.at === null ? x.length - 1 : Math.min(find(x, this.at), x.length - 1);
    const big = Math.max(1, Math.round(x.length / 20));
    const moves = {
      ArrowLeft: now - big, ArrowRight: now + big, Home: 0, End: x.length - 1, Escape: null,
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const to = moves[event.key];
    this.read(to === null ? null : x[Math.min(x.length - 1, Math.max(0, to))], true);
  }

  /** Shows the values at a place. @param {?number} x @param {boolean} aloud */
  read(x, aloud) {
    this.at = x;
    const known = x !== null && this.right > this.left;
    this.cross.hidden = !known;
    if (!known) {
      say(this.readout, "");
      return;
    }
    const box = this.frame.getBoundingClientRect();
    const share = (x - this.left) / (this.right - this.left);
    this.cross.style.left = `${LEFT + share * (box.width - LEFT - RIGHT)}px`;
    const parts = [`${this.x.unit ? "" : "step "}${short(x)}${this.x.unit ? ` ${this.x.unit}` : ""}`];
    for (const [name, value] of this.valuesAt(x)) parts.push(`${name} ${value}`);
    const near = (this.right - this.left) / 80;
    const marks = this.marks.filter((mark) => Math.abs(mark.x - x) < near);
    marks.sort((a, b) => Math.abs(a.x - x) - Math.abs(b.x - x));
    if (marks.length) parts.push(marks[0].mark.text + (marks.length > 1 ? ` (and ${marks.length - 1} more)` : ""));
    say(this.readout, parts.join(" · "));
    if (aloud) say(this.heard, parts.join(", "));
  }

  valuesAt(x) {
    return this.how.lines.map((line, at) => {
      const { x: xs, y } = this.data[at];
      if (!xs.length) return [line.name, "–"];
      let index = Math.min(find(xs, x), xs.length - 1);
      if (index > 0 && x - xs[index - 1] < xs[index] - x) index -= 1;
      return [line.name, this.how.format(y[index])];
    });
  }

  words() {
    const told = this.how.lines.map((line, at) => {
      const y = this.data[at].y.filter(Number.isFinite);
      return y.length && !line.unread && `${line.name} from ${this.how.format(y[0])} to ${this.how.format(y[y.length - 1])}`;
    });
    return `${this.how.title}: ${told.filter(Boolean).join(", ") || "nothing yet"}. Arrow keys read values.`;
  }

  table() {
    const rows = 12;
    const right = this.right ?? 1;
    const left = this.left ?? 0;
    const body = [];
    for (let at = 0; at <= rows && this.data.some(({ x }) => x.length); at += 1) {
      const x = left + ((right - left) * at) / rows;
      body.push([short(x), ...this.valuesAt(x).map(([, value]) => value)]);
    }
    return table("", [`${this.x.title}#`, ...this.how.lines.map((line) => `${line.name}#`)], body);
  }
}
