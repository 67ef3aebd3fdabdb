// The timeline: which part of it is seen, and how people move in it.

import { attribute, byId, colour, el, say, table, tableBehind } from "./dom.js";
import { duration, integer, moment, percent } from "./format.js";
import { Older } from "./older.js";
import { explain, missing } from "./tensors.js";
import { AXIS, draw, hatchTile, palette, rows, scale } from "./timeline_draw.js";
import { listen } from "./timeline_input.js";
import { nearest, neighbour, summary, under, words } from "./timeline_pick.js";

const HEIGHT = 232;
const LANE = 22; // least pixels of a lane, where there are many
const SHORTEST = 1e-4; // seconds in view
const SHARDS = 120; // of a worker that are in view at first
const OVER = ["finished", "stopped", "failed", "killed"];

export class Timeline {
  /** @param {import("./store.js").Store} store @param {import("./marks.js").Marks} marks
   * @param {{changed: () => void, open: (epoch: number, round: number) => void}} how */
  constructor(store, marks, { changed, open }) {
    Object.assign(this, { store, shownMarks: marks, changed, open });
    this.end = null; // null: the newest moment, whatever it is
    this.length = null; // seconds in view; null: not chosen yet
    this.selected = null;
    this.older = new Older(store, changed);
    this.parts();
    this.colours();
    new ResizeObserver(() => changed()).observe(this.canvas);
  }

  parts() {
    this.canvas = el("canvas", {
      tabindex: "0", role: "application", "aria-roledescription": "timeline",
      "aria-label": "Timeline of shards. Arrow keys go from shard to shard, up and down from worker to worker; " +
        "Enter opens the round; plus and minus zoom; Home is the beginning, End is live.",
    });
    this.tip = el("div", { class: "tip", hidden: true });
    this.none = el("p", { class: "missing over" });
    this.stage = el("div", { class: "stage" }, this.canvas, this.tip, this.none);
    this.slider = el("input", { type: "range", min: 0, max: 1000, value: 1000, "aria-label": "Where in the run", class: "where" });
    this.seen = el("span", { class: "seen" });
    this.info = el("p", { class: "readout", "aria-live": "polite" });
    this.behind = tableBehind("Timeline as a table", () => this.table());
    const key = (kind, text) => el("span", { class: "key" }, el("i", { class: `swatch ${kind}` }), text);
    const legend = el("p", { class: "legend" }, key("full", "computing; a colour for each round"), key("pale", "on its way, or next in line"),
      key("empty", "waiting"), key("hatched", "evaluation"), key("outlined", "backup"), key("dashed", "not used"));
    byId("timeline").append(this.stage, el("div", { class: "under" }, this.slider, this.seen), legend, this.info, this.behind.element);
    const tool = (text, label, act) => {
      const button = el("button", { type: "button", class: "button small", "aria-label": label, title: label, onclick: act }, text);
      byId("timeline-tools").append(button);
      return button;
    };
    tool("◀", "Earlier", () => this.pan(-0.5));
    tool("▶", "Later", () => this.pan(0.5));
    tool("−", "Zoom out", () => this.zoom(2));
    tool("+", "Zoom in", () => this.zoom(0.5));
    tool("All", "The whole run", () => this.whole());
    this.live = tool("Live", "Follow what happens now", () => this.follow());
    listen(this);
  }

  colours() {
    this.palette = palette(colour);
    this.hatch = this.canvas.getContext("2d").createPattern(hatchTile(this.palette.ground), "repeat");
  }

  get over() {
    return OVER.includes(this.store.state.phase);
  }

  /** @returns {[number, number]} the moments between which the timeline is seen */
  get window() {
    const end = this.end ?? this.store.now;
    return [end - (this.length ?? 1), end];
  }

  /** The first window: so long that single shards can be told apart. */
  begin() {
    const { spans } = this.store;
    if (this.length !== null || spans.length < 8) return;
    const lanes = new Set();
    for (let place = 0; place < spans.length; place += 1) lanes.add(spans.lane[spans.at(place)]);
    const each = (spans.newest - spans.oldest) / (spans.length / lanes.size);
    const whole = this.over ? this.store.now - this.store.start : Infinity;
    this.length = Math.min(20, Math.max(0.1, each * SHARDS), Math.max(SHORTEST, whole));
  }

  /** @returns {number[]} in the order in which they are drawn */
  lanes() {
    const { store } = this;
    const spans = this.source();
    const found = new Set();
    for (const { epoch, worker, state } of store.workers) {
      if (state !== "left" && state !== "lost" && state !== "expelled") found.add(store.lanes.of(epoch, worker));
    }
    const [begin, end] = this.window;
    for (let place = spans.find(begin); place < spans.length; place += 1) {
      const at = spans.at(place);
      if (spans.begin[at] <= end) found.add(spans.lane[at]);
    }
    return store.lanes.sorted(found);
  }

  /** @returns {import("./spans.js").Spans} the spans that reach over the window */
  source() {
    const { spans, older } = this.store;
    const [begin, end] = this.window;
    return begin < spans.oldest && this.older.covers(begin, end) ? older : spans;
  }

  draw() {
    this.begin();
    const { canvas, store } = this;
    const lanes = this.lanes();
    const height = Math.max(HEIGHT, AXIS + lanes.length * LANE);
    const width = this.stage.clientWidth;
    const ratio = globalThis.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.height = `${height}px`;
    }
    const ctx = canvas.getContext("2d");
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    const [begin, end] = this.window;
    this.frame = { width, height, gutter: width < 600 ? 72 : 108, begin, end, lanes };
    const seen = draw(ctx, this.frame, {
      spans: this.source(), names: store.lanes.names, start: store.start, selected: this.selected,
      marks: this.shownMarks.shown, colours: this.palette, hatch: this.hatch,
    });
    Object.assign(canvas.dataset, { spans: seen.spans, mode: seen.mode, lanes: lanes.length });
    this.tell(seen);
    this.lookBack();
    this.behind.refresh();
  }

  tell({ mode }) {
    const { store } = this;
    const [begin, end] = this.window;
    this.none.hidden = store.spans.length > 0;
    if (!this.none.hidden) {
      explain(this.none, missing(store, "timeline", ["full"]));
      say(this.seen, "");
      return;
    }
    const from = (time) => moment(Math.max(0, time - store.start), end - begin);
    const how = mode === "shares" ? " · height is the share of time; zoom in for single shards" : "";
    say(this.seen, `${from(begin)} to ${from(end)} of the run, ${duration(end - begin)} in view${how}${this.older.note}`);
    attribute(this.live, "aria-pressed", String(this.end === null));
    say(this.live, this.over ? "End" : "Live");
    const whole = store.now - store.start;
    if (document.activeElement !== this.slider || this.end === null) {
      this.slider.value = String(whole > 0 ? Math.round(((end - store.start) / whole) * 1000) : 1000);
    }
    attribute(this.slider, "aria-valuetext", `${from(end)} of ${moment(whole, end - begin)}`);
  }

  /** Asks the server for a window that is older than what is kept here. */
  lookBack() {
    const { spans, run } = this.store;
    const [begin, end] = this.window;
    const following = this.end === null && !this.over;
    if (run && !spans.complete && begin < spans.oldest && this.source() === spans && !following) this.older.ask(begin, end);
  }

  // --- moving ------------------------------------------------------------------------------------

  follow() {
    this.end = null;
    this.older.note = "";
    if (!this.over) this.length = Math.min(this.length ?? 1, Math.max(10, this.store.now - this.store.spans.oldest));
    this.changed();
  }

  whole() {
    const { start, now } = this.store;
    this.show(start, now);
  }

  /** @param {number} begin @param {number} end */
  show(begin, end) {
    const { start, now } = this.store;
    this.length = Math.min(Math.max(end - begin, SHORTEST), Math.max(1, (now - start) * 1.02));
    const last = now + this.length / 2;
    this.end = Math.min(Math.max(begin + this.length, start + this.length / 2), last);
    this.changed();
  }

  /** @param {number} share of what is in view; negative: to earlier */
  pan(share) {
    const [begin, end] = this.window;
    const by = share * (end - begin);
    if (end + by >= this.store.now && share > 0) this.follow();
    else this.show(begin + by, end + by);
  }

  /** @param {number} factor below 1: closer @param {number} [around] a moment that stays in its place */
  zoom(factor, around) {
    const [begin, end] = this.window;
    if (this.end === null && around === undefined && !this.over) {
      this.length = Math.min(Math.max((end - begin) * factor, SHORTEST), 3600);
      this.follow();
      return;
    }
    const middle = around ?? (begin + end) / 2;
    this.show(middle - (middle - begin) * factor, middle + (end - middle) * factor);
  }

  // --- choosing ----------------------------------------------------------------------------------

  /** @param {number} x @param {number} y pixels in the canvas @returns {?import("./spans.js").Span} */
  at(x, y) {
    const { frame } = this;
    if (!frame || x < frame.gutter) return null;
    const place = rows(frame);
    const row = frame.lanes.findIndex((_, at) => y >= place.top(at) - 2 && y <= place.top(at) + place.height + 2);
    if (row < 0) return null;
    return under(this.source(), frame.lanes[row], this.timeAt(x), (frame.end - frame.begin) / (frame.width - frame.gutter));
  }

  timeAt(x) {
    const { frame } = this;
    return frame.begin + ((x - frame.gutter) / (frame.width - frame.gutter)) * (frame.end - frame.begin);
  }

  /** @param {?import("./spans.js").Span} span */
  select(span) {
    this.selected = span;
    if (!span) {
      say(this.info, "");
      this.changed();
      return;
    }
    say(this.info, `${words(span, this.store.lanes.names[span.lane]).join(" · ")} · Enter shows the round`);
    const [begin, end] = this.window;
    if (span.begin < begin || span.end > end) {
      const middle = (span.begin + span.end) / 2;
      this.show(middle - (end - begin) / 2, middle + (end - begin) / 2);
    } else {
      if (this.end === null) this.end = end; // what is chosen must not run away
      this.changed();
    }
  }

  step(direction) {
    const source = this.source();
    const lanes = this.lanes();
    if (!lanes.length) return;
    const [begin, end] = this.window;
    const next = this.selected ? neighbour(source, this.selected, direction) : nearest(source, lanes[0], (begin + end) / 2);
    if (next) this.select(next);
  }

  stepLane(direction) {
    const lanes = this.lanes();
    if (!lanes.length) return;
    const [begin, end] = this.window;
    const time = this.selected ? (this.selected.begin + this.selected.end) / 2 : (begin + end) / 2;
    const now = this.selected ? lanes.indexOf(this.selected.lane) : -1;
    const row = Math.min(lanes.length - 1, Math.max(0, now + direction));
    const next = nearest(this.source(), lanes[row], time);
    if (next) this.select(next);
  }

  hover(x, y) {
    const span = x === null ? null : this.at(x, y);
    this.tip.hidden = !span;
    this.canvas.style.cursor = span ? "pointer" : "grab";
    if (!span) return;
    this.tip.replaceChildren(...words(span, this.store.lanes.names[span.lane]).map((line) => el("div", {}, line)));
    const room = this.frame.width - this.tip.offsetWidth - 8;
    this.tip.style.left = `${Math.max(0, Math.min(scale(this.frame)(span.begin), x + 12, room))}px`;
    this.tip.style.top = `${y + 18}px`;
  }

  table() {
    const [begin, end] = this.window;
    const { names } = this.store.lanes;
    const found = summary(this.source(), begin, end).sort((a, b) => names[a.lane].localeCompare(names[b.lane]));
    const heads = ["worker", "shards#", "documents#", "computing#", "on its way#", "backups#", "not used#"];
    return table(`In view: ${duration(end - begin)}`, heads, found.map((of) => [
      names[of.lane], integer(of.shards), integer(of.documents), percent(of.computing), percent(of.wire), integer(of.backups), integer(of.unused),
    ]));
  }
}
