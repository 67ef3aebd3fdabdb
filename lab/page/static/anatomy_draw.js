// Draws an anatomy: the document as a whole, and one of its positions. What is drawn as bars stands
// in tables, too, so that nobody needs to see them.

import { byId, el, say, table, tableBehind } from "./dom.js";
import { decimal, integer } from "./format.js";

/** @typedef {{token: number, target: number, probabilities: number[], rank: number, loss: number,
 *   attention: number[][][], norms: number[]}} Position
 * @typedef {{step: number, document: string, cut: boolean, vocabulary: (?string)[], loss: number,
 *   parts: string[], positions: Position[], gradient_norm: ?number, model: Object<string, number>,
 *   gradients: ?{name: string, rows: number, columns: number, norm: number, share: number}[]}} Anatomy */

/** @param {number} share @returns {string} with as many digits as tell it apart from 0 */
const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;

/** A letter as it is shown: what is not seen has a sign. @param {?string} letter */
function glyph(letter) {
  if (letter === " ") return "␣";
  return /^[\s\p{C}]$/u.test(letter) ? `U+${letter.codePointAt(0).toString(16)}` : letter;
}

/** @param {Anatomy} found @param {number} token */
const coming = (found, token) => (found.vocabulary[token] === null ? "end" : glyph(found.vocabulary[token]));
/** @param {Anatomy} found @param {number} at a position @returns {string} what is read there */
const read = (found, at) => (at === 0 ? "start" : glyph(found.vocabulary[found.positions[at].token]));
const isWord = (shown) => shown === "start" || shown === "end";
const edge = (shown) => (isWord(shown) ? "glyph edge" : "glyph");

/** @param {number} n @returns {string} first, 2nd, 3rd, 11th */
function ordinal(n) {
  if (n === 1) return "first";
  const tens = n % 100;
  const ending = tens > 10 && tens < 14 ? "th" : ["th", "st", "nd", "rd"][n % 10] ?? "th";
  return `${integer(n)}${ending}`;
}

function bar(share, height = false) {
  const drawn = el("i");
  drawn.style[height ? "height" : "width"] = `${100 * share}%`;
  return drawn;
}

// --- the document --------------------------------------------------------------------------------

/** @param {Anatomy} found @param {(at: number) => void} choose called with a position */
export function drawDocument(found, choose) {
  const many = found.positions.length;
  const cut = found.cut ? " It is longer than the context: the model reads no further." : "";
  const name = found.document ? `“${found.document}”` : "the empty document";
  say(
    byId("summary"),
    `The model of step ${integer(found.step)} reads ${name} letter by letter. Each time it gives every ` +
      `letter a probability to come next. Over ${many} ${many === 1 ? "position" : "positions"} the mean ` +
      `loss is ${decimal(found.loss)} nats: as unsure as a guess among ${Math.exp(found.loss).toPrecision(3)} ` +
      `letters that are all as likely.${cut}`,
  );
  drawStrip(found, choose);
  drawGradient(found);
  const { element } = tableBehind("All positions as a table", () => positionTable(found));
  byId("positions").replaceChildren(element);
}

function drawStrip(found, choose) {
  const highest = Math.max(...found.positions.map((one) => one.loss)) || 1;
  const tile = (one, at) => {
    const [shown, next] = [read(found, at), coming(found, one.target)];
    const label = `${shown}, then ${next}: loss ${decimal(one.loss)}`;
    const column = el("span", { class: "bar" });
    column.style.height = `${(100 * one.loss) / highest}%`;
    return el(
      "label", {},
      el("input", { type: "radio", name: "position", value: at, "aria-label": label, onchange: () => choose(at) }),
      el("span", { class: "value", "aria-hidden": "true" }, one.loss.toFixed(2)),
      column,
      el("span", { class: edge(shown), "aria-hidden": "true" }, shown),
      el("span", { class: "follows", "aria-hidden": "true" }, `→ ${next}`),
    );
  };
  byId("strip").replaceChildren(...found.positions.map(tile));
}

function positionTable(found) {
  const rows = found.positions.map((one, at) => [
    at, read(found, at), coming(found, one.target), decimal(one.loss),
    percent(one.probabilities[one.target]), one.rank,
  ]);
  return table("", ["position#", "read", "comes next", "loss, nats#", "probability#", "rank#"], rows);
}

function drawGradient(found) {
  const { gradients } = found;
  const place = byId("gradient");
  if (gradients === null) {
    say(byId("gradient-text"), "The model and the document are too large for it to be computed here.");
    place.replaceChildren();
    return;
  }
  const parameters = gradients.reduce((sum, one) => sum + one.rows * one.columns, 0);
  say(
    byId("gradient-text"),
    `Why a worker does all this: to know which way each of the ${integer(parameters)} parameters must go ` +
      `for the loss to fall. It sends the sum over its documents. For this one, the length of the whole ` +
      `is ${decimal(found.gradient_norm)}, and each matrix has this part in it.`,
  );
  const rows = gradients.map((one) => [
    one.name, `${one.rows} × ${one.columns}`, decimal(one.norm), percent(one.share), one.share,
  ]);
  place.replaceChildren(barTable("Gradient of each matrix", ["matrix", "size", "length#", "share#"], rows, "c3"));
}

/** A table whose rows end with a share, which is drawn as a bar. */
function barTable(caption, heads, rows, colour) {
  const made = table("", heads, rows.map((row) => row.slice(0, -1)));
  made.className = `bars ${colour}`;
  made.prepend(el("caption", { class: "hidden-text" }, caption));
  made.tHead.rows[0].append(el("td"));
  [...made.tBodies[0].rows].forEach((row, at) => {
    row.append(el("td", { class: "bar", "aria-hidden": "true" }, bar(rows[at].at(-1))));
    const head = el("th", { scope: "row" }, ...row.cells[0].childNodes);
    row.cells[0].replaceWith(head);
  });
  return made;
}

// --- one position --------------------------------------------------------------------------------

/** @param {Anatomy} found @param {number} at */
export function drawPosition(found, at) {
  const one = found.positions[at];
  byId("strip").children[at].firstElementChild.checked = true;
  const before = found.positions.slice(0, at + 1).map((_, place) => read(found, place));
  const shown = one.probabilities[one.target];
  const best = one.probabilities.indexOf(Math.max(...one.probabilities));
  const first = one.rank === 1 ? "" : ` Its first is ${coming(found, best)}, with ${percent(one.probabilities[best])}.`;
  const where = at === 0 ? "Before any letter" : `After “${before.slice(1).join("")}”`;
  const target = coming(found, one.target);
  const what = target === "end" ? "the end" : target;
  say(
    byId("chosen"),
    `${where} the model gives ${percent(shown)} to ${what}, which comes next: its ${ordinal(one.rank)} ` +
      `guess.${first} The loss here is −ln ${shown.toPrecision(3)} = ${decimal(one.loss)} nats: its surprise.`,
  );
  drawNext(found, one);
  drawAttention(found, one, before);
  drawHidden(found, one);
}

function drawNext(found, one) {
  const highest = Math.max(...one.probabilities);
  const column = (probability, token) => {
    const target = token === one.target;
    const shown = coming(found, token);
    return el(
      "div", { class: target ? "target" : null, title: `${shown}: ${percent(probability)}`, "data-token": token },
      el("span", { class: "mark" }, target ? "▼" : ""),
      bar(probability / highest, true),
      el("span", { class: "glyph" }, shown === "end" ? "⏎" : shown),
    );
  };
  const place = byId("next");
  say(byId("next-text"), `▼ is what comes. The highest bar is ${percent(highest)}.`);
  place.replaceChildren(...one.probabilities.map(column));
  const target = coming(found, one.target);
  place.setAttribute("aria-label", `Bars of ${one.probabilities.length} probabilities; ${target} comes next.`);
  const order = one.probabilities.map((_, token) => token)
    .sort((a, b) => one.probabilities[b] - one.probabilities[a]);
  const rows = () => order.map((token, at) => [
    at + 1, coming(found, token), percent(one.probabilities[token]), token === one.target ? "comes next" : "",
  ]);
  const open = byId("next-table").querySelector("details")?.open ?? false;
  const { element, refresh } = tableBehind("Probabilities as a table", () =>
    table("", ["rank#", "letter", "probability#", "remark"], rows()));
  byId("next-table").replaceChildren(element);
  element.open = open;
  refresh();
}

function drawAttention(found, one, before) {
  const heads = one.attention.flatMap((layer, number) =>
    layer.map((weights, head) => ({ name: `layer ${number}, head ${head}`, weights })));
  const cell = (share) => {
    const made = el("td", {}, percent(share));
    made.style.setProperty("--share", share.toFixed(4));
    return made;
  };
  byId("attention").replaceChildren(el(
    "table", { class: "attention" },
    el("caption", { class: "hidden-text" }, "Attention of each head to each letter so far"),
    el("thead", {}, el("tr", {}, el("td"), ...before.map((shown) =>
      el("th", { scope: "col", class: isWord(shown) ? "edge" : null }, shown)))),
    el("tbody", {}, ...heads.map(({ name, weights }) =>
      el("tr", {}, el("th", { scope: "row" }, name), ...weights.map(cell)))),
  ));
}

function drawHidden(found, one) {
  say(
    byId("hidden-text"),
    `What the model knows at this position is ${integer(found.model.n_embd)} numbers. It begins as what the ` +
      `letter and its place are, and each part adds to it.`,
  );
  const highest = Math.max(...one.norms) || 1;
  const rows = found.parts.map((part, at) => [
    part.replace(/^layer(\d+)\./, "layer $1, "), decimal(one.norms[at], 3), one.norms[at] / highest,
  ]);
  byId("hidden").replaceChildren(barTable("Length of the hidden state", ["after", "length#"], rows, "c2"));
}
