// Small curves without axes, beside the number that they lead to.

import { svg } from "./dom.js";

const WIDTH = 110;
const HEIGHT = 24;

/**
 * @param {readonly [number, ?number][]} points @param {string} colour name of a CSS variable
 * @returns {SVGElement} hidden from screen readers: the number stands beside it
 */
export function sparkline(points, colour = "c0") {
  const drawing = svg("svg", {
    width: WIDTH, height: HEIGHT, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "sparkline", "aria-hidden": "true",
  });
  drawing.append(svg("path", { class: `stroke-${colour}`, d: path(points) }));
  return drawing;
}

/** @param {SVGElement} drawing made by sparkline @param {readonly [number, ?number][]} points */
export function redraw(drawing, points) {
  drawing.firstElementChild.setAttribute("d", path(points));
}

function path(points) {
  const known = points.filter(([, value]) => value !== null && Number.isFinite(value));
  if (known.length < 2) return "";
  const values = known.map(([, value]) => value);
  const low = Math.min(...values);
  const high = Math.max(...values);
  const [first, last] = [known[0][0], known[known.length - 1][0]];
  const places = known.map(([step, value]) => {
    const x = 1 + ((step - first) / (last - first || 1)) * (WIDTH - 2);
    const y = high > low ? HEIGHT - 2 - ((value - low) / (high - low)) * (HEIGHT - 4) : HEIGHT / 2;
    return `${x.toFixed(1)},${y.toFixed(1)}`;
  });
  return `M${places.join("L")}`;
}
