// In the browser: makes up a run, and times what the page needs to draw it.

const QUIET = 4; // frames without a stroke: nothing more comes
const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
let stroked = 0; // when a canvas was last drawn on, in ms
for (const name of ["stroke", "fillText"]) {
  const original = CanvasRenderingContext2D.prototype[name];
  CanvasRenderingContext2D.prototype[name] = function draw(...values) {
    original.apply(this, values);
    stroked = performance.now();
  };
}

/** Until nothing more is drawn: the library puts its part off to a later frame. */
async function quiet() {
  for (let still = 0; still < QUIET; still += 1) {
    const before = stroked;
    await frame();
    if (stroked !== before) still = -1;
  }
}

function steps(first, many) {
  const column = (of) => Array.from({ length: many }, (_, at) => of(first + at));
  return {
    step: column((n) => n), loss: column((n) => 2 + Math.exp(-n / 2000) + 0.2 * Math.sin(n * 12.9898)),
    time: column((n) => 1e9 + n / 700), seconds: column((n) => n / 700), documents: column((n) => 32 * n),
    sent: column((n) => 70_000 * n), received: column((n) => 68_000 * n),
  };
}

function spans(first, many, lanes) {
  return Array.from({ length: many }, (_, at) => {
    const n = first + at;
    const round = Math.floor(n / lanes);
    const begin = 1e9 + round / 700;
    const end = begin + 0.0011 + 0.0003 * Math.sin(n);
    return [1, 1 + (n % lanes), begin, begin + 0.0004, end, "answered", n % 97 ? "work" : "backup", round, (n % lanes) * 16, 16, round];
  });
}

function begin(points, bars, lanes) {
  const workers = Array.from({ length: lanes }, (_, at) => ({
    epoch: 1, worker: at + 1, name: `worker-${at + 1}`, engine: "tape", host: null, state: "computing",
    documents_per_second: 8000, documents: 1, in_flight: 2, silent_for: 0.1, round_trip: 0.0003, bytes_sent: 1,
    bytes_received: 1, computing: 0.6, wire: 0.2, waiting: 0.2,
  }));
  page.store.take("snapshot", {
    run: { id: "bench", name: "bench", strategy: "sync", promise: "exact", steps: 1e6, settings: { events: "full" }, conditions: [] },
    state: { phase: "running", step: points, steps: 1e6 }, steps: steps(1, points), validations: [[1, 3.2, 1e9]],
    workers, spans: spans(0, bars, lanes), marks: [], samples: [], tensors: null, numbers: null, rounds_recorded: true,
  });
}

globalThis.bench = {
  next: 1,
  prepareChart(name, points) {
    begin(points, 8, 2);
    const draw = { loss: "drawLoss", rate: "drawRate", bytes: "drawBytes" }[name];
    this.one = (at) => {
      for (const column of ["loss", "documents", "sent"]) { // the library does not draw the same again
        page.store.steps[column] = page.store.steps[column].map((n) => n * (1 + (at + 1) / 1000));
      }
      page.charts[draw]();
    };
  },

  prepareTimeline(bars, lanes) {
    begin(2, bars, lanes);
    const { timeline } = page;
    timeline.show(page.store.spans.oldest - 0.01, page.store.spans.newest);
    timeline.draw();
    const { mode, spans: seen } = timeline.canvas.dataset;
    if (Number(seen) !== bars) throw new Error(`${seen} of ${bars} shards are seen`);
    this.one = () => timeline.draw();
    return mode === "bars" ? "bar by bar" : "as shares";
  },

  async draw(repeats) {
    const all = [];
    for (let at = 0; at < repeats; at += 1) {
      await quiet();
      const begun = performance.now();
      this.one(at);
      const called = performance.now();
      await quiet();
      all.push(Math.max(called, stroked) - begun);
    }
    all.sort((a, b) => a - b);
    return { drawn: all[repeats >> 1], worst: all[repeats - 1] };
  },

  async replay(ticks) {
    const { store, timeline, touch } = page;
    if (this.next === 1) {
      begin(2, 8, 2);
      timeline.follow();
    }
    for (let tick = 0; tick < ticks; tick += 1) {
      const changed = ["steps", "spans", "state"];
      store.take("steps", steps(3 + this.next * 70, 70));
      store.take("spans", spans(this.next * 140, 140, 2));
      store.take("state", { ...store.state, step: this.next * 70, time: 1e9 + this.next / 10 });
      if (this.next % 10 === 0) {
        changed.push("marks", "tensors", "numbers");
        store.take("marks", [{ time: 1e9 + this.next / 10, step: this.next * 70, kind: "checkpoint_saved", worker: 0, name: "", text: "saved", warning: false }]);
        store.take("tensors", { step: this.next * 70, names: ["wte", "wpe"], gradient: [1, 2], update: [0.1, 0.2] });
        store.take("numbers", { step: this.next * 70, numbers: { distance: this.next }, histograms: { staleness: { [this.next % 5]: 1 } } });
      }
      this.next += 1;
      if (tick % 60 === 0) {
        touch(changed);
        await frame();
      }
    }
  },
};
