// The second view: which checkpoint and document, and which of its positions. The choice stands in
// the address, so that a lesson can begin with a link.

import { drawDocument, drawPosition } from "./anatomy_draw.js";
import { attribute, byId, el, say } from "./dom.js";
import { integer } from "./format.js";

const MOST_CHOICES = 200; // checkpoints that are offered; the first and the last are among them

const checkpoint = byId("checkpoint");
const text = byId("document");
let found = null; // the anatomy that is shown
let position = 0;
let asking = null;

/** @param {string} words @param {boolean} [wrong] */
function tell(words, wrong = false) {
  const status = byId("status");
  status.classList.toggle("wrong", wrong);
  say(status, words || "\u00a0");
}

async function get(path, signal) {
  const answer = await fetch(path, { signal });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error);
  return body;
}

async function offerCheckpoints() {
  const { checkpoints } = await get("/api/checkpoints");
  const stride = Math.ceil(checkpoints.length / MOST_CHOICES);
  const last = checkpoints.length - 1;
  const offered = checkpoints.filter((_, at) => (last - at) % stride === 0 || at === 0);
  checkpoint.append(...offered.map((step) => el("option", { value: step }, `step ${integer(step)}`)));
}

/** Asks for the anatomy of what is chosen; the newest question counts. */
async function show(wanted = 0) {
  asking?.abort();
  asking = new AbortController();
  const { signal } = asking;
  const slow = setTimeout(() => tell("computing …"), 150);
  const query = new URLSearchParams();
  if (checkpoint.value) query.set("checkpoint", checkpoint.value);
  if (text.value) query.set("document", text.value);
  try {
    const body = await get(`/api/anatomy?${query}`, signal);
    if (signal.aborted) return;
    found = body;
    if (!text.value) text.value = body.document;
    tell("");
    drawDocument(found, choose);
    choose(Math.min(wanted, found.positions.length - 1));
  } catch (error) {
    if (!signal.aborted) tell(error.message, true);
  } finally {
    clearTimeout(slow);
  }
}

/** @param {number} at the position to look at */
function choose(at) {
  position = at;
  drawPosition(found, at);
  remember();
}

function remember() {
  const query = new URLSearchParams();
  if (checkpoint.value) query.set("step", checkpoint.value);
  query.set("document", found.document);
  if (position) query.set("position", String(position));
  history.replaceState(null, "", `?${query}`);
}

async function begin() {
  const asked = new URLSearchParams(location.search);
  text.value = asked.get("document") ?? "";
  try {
    await offerCheckpoints();
  } catch (error) {
    tell(error.message, true);
  }
  const step = asked.get("step") ?? "";
  if (/^\d+$/.test(step)) {
    if (![...checkpoint.options].some((option) => option.value === step))
      checkpoint.append(el("option", { value: step }, `step ${integer(Number(step))}`));
    checkpoint.value = step;
  }
  await show(Math.max(0, Number.parseInt(asked.get("position") ?? "0", 10) || 0));
  attribute(document.body, "data-ready", "");
}

byId("choice").addEventListener("submit", (event) => {
  event.preventDefault();
  show();
});
checkpoint.addEventListener("change", () => show(position));
begin();
