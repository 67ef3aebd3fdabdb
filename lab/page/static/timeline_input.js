// Mouse, fingers and keys on the timeline.

const CLICK = 5; // pixels; who moves further drags

/** @param {import("./timeline.js").Timeline} timeline */
export function listen(timeline) {
  const { canvas, slider } = timeline;
  pointers(timeline);
  canvas.addEventListener("wheel", (event) => wheel(timeline, event), { passive: false });
  canvas.addEventListener("keydown", (event) => key(timeline, event));
  slider.addEventListener("input", () => {
    const { start, now } = timeline.store;
    const [begin, end] = timeline.window;
    if (Number(slider.value) >= 1000) timeline.follow();
    else {
      const to = start + (Number(slider.value) / 1000) * (now - start);
      timeline.show(to - (end - begin), to);
    }
  });
}

function pointers(timeline) {
  const { canvas } = timeline;
  const down = new Map();
  let from = null;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, place(event));
    from = { ...place(event), window: timeline.window, moved: false, apart: apart(down) };
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = place(event);
    if (!down.has(event.pointerId)) {
      timeline.hover(now.x, now.y);
      return;
    }
    down.set(event.pointerId, now);
    if (down.size === 1 && Math.abs(now.x - from.x) > CLICK) from.moved = true;
    if (from.moved || down.size > 1) drag(timeline, from, now, down);
  });
  const up = (event) => {
    const was = down.delete(event.pointerId);
    if (was && !down.size && from && !from.moved && event.type === "pointerup") {
      const { x, y } = place(event);
      choose(timeline, timeline.at(x, y));
    }
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("pointerleave", () => timeline.hover(null, null));
}

function apart(down) {
  const [a, b] = [...down.values()];
  return b ? Math.max(20, Math.abs(a.x - b.x)) : null;
}

function drag(timeline, from, now, down) {
  const [begin, end] = from.window;
  const perPixel = (end - begin) / (timeline.frame.width - timeline.frame.gutter);
  timeline.hover(null, null);
  if (down.size > 1) {
    from.moved = true;
    const factor = (from.apart || apart(down)) / apart(down);
    const middle = (begin + end) / 2;
    timeline.show(middle - ((end - begin) * factor) / 2, middle + ((end - begin) * factor) / 2);
    return;
  }
  const by = (from.x - now.x) * perPixel;
  timeline.show(begin + by, end + by);
}

function choose(timeline, span) {
  timeline.select(span);
  if (span) timeline.open(span.epoch, span.round);
}

/** Turning the wheel zooms once the timeline has been chosen, or with Ctrl; else the page scrolls. */
function wheel(timeline, event) {
  const chosen = document.activeElement === timeline.canvas || event.ctrlKey || event.metaKey;
  const across = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
  if (!timeline.frame || (!across && !chosen)) return;
  event.preventDefault();
  if (across) timeline.pan((event.deltaX || event.deltaY) / 1000);
  else {
    const box = timeline.canvas.getBoundingClientRect();
    timeline.zoom(1.0015 ** event.deltaY, timeline.timeAt(event.clientX - box.left));
  }
}

function key(timeline, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const keys = {
    ArrowLeft: () => (event.shiftKey ? timeline.pan(-0.25) : timeline.step(-1)),
    ArrowRight: () => (event.shiftKey ? timeline.pan(0.25) : timeline.step(1)),
    ArrowUp: () => timeline.stepLane(-1),
    ArrowDown: () => timeline.stepLane(1),
    PageUp: () => timeline.pan(-1),
    PageDown: () => timeline.pan(1),
    "+": () => timeline.zoom(0.5),
    "=": () => timeline.zoom(0.5),
    "-": () => timeline.zoom(2),
    Home: () => timeline.show(timeline.store.start, timeline.store.start + timeline.window[1] - timeline.window[0]),
    End: () => timeline.follow(),
    Enter: () => timeline.selected && timeline.open(timeline.selected.epoch, timeline.selected.round),
    Escape: () => timeline.select(null),
  };
  const act = keys[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}
