// The tree of a round: which shards it had, who computed them, and how the sum was formed.

import { byId, el, table } from "./dom.js";
import { duration, integer } from "./format.js";
import { drawSchedule } from "./schedule.js";
import { drawTree, inWords } from "./tree.js";

const OUTCOMES = {
  applied: "an update was made of it", evaluated: "it measured the loss on held-out documents",
  dropped: "it was dropped", gathered: "it went into the update of a later round",
};
let asked = 0;

/** Asks for a round and shows it. @param {number} epoch @param {number} round @param {number} start of the run */
export async function openRound(epoch, round, start) {
  asked += 1;
  const mine = asked;
  const dialog = byId("round");
  frame(dialog, `Round ${integer(round)}`, el("p", { class: "missing" }, "Looking it up in the record …"));
  if (!dialog.open) dialog.showModal();
  let parts;
  try {
    const answer = await fetch(`/api/round/${epoch}/${round}`);
    const found = await answer.json();
    parts = answer.ok ? show(found, start) : [el("p", { class: "missing" }, found.error || `status ${answer.status}`)];
  } catch {
    parts = [el("p", { class: "missing" }, "The server does not answer.")];
  }
  if (mine === asked) frame(dialog, `Round ${integer(round)}`, ...parts);
}

function frame(dialog, title, ...parts) {
  const close = el("button", { type: "button", class: "button small", onclick: () => dialog.close() }, "Close");
  const head = el("div", { class: "heading" }, el("h2", { id: "round-title" }, title), close);
  dialog.replaceChildren(head, ...parts);
  close.focus();
}

function show(found, start) {
  const outcome = found.outcome ? OUTCOMES[found.outcome] || found.outcome : "it is still open";
  const kind = found.evaluation ? "held-out documents" : "documents";
  const head = el("p", {}, `${integer(found.documents)} ${kind} with weights of version ${integer(found.version)}; ${outcome}.`);
  const places = byPlace(found.shards);
  const parts = [head];
  const whole = found.tree ?? (places.length > 1 ? [...places.keys()] : 0);
  const summed = found.tree !== null && found.tree !== undefined;
  const title = summed ? `sum of ${integer(found.documents)} documents` : found.evaluation ? "mean loss" : "joined by the strategy";
  parts.push(el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "How the results were joined" },
    drawTree(whole, (place) => leafOf(places[place]), title)));
  if (Array.isArray(whole) && summed) {
    parts.push(el("p", { class: "weak small" }, `Formed as ${inWords(whole)}: in the same order whoever computes, so that the bits are the same.`));
  }
  parts.push(el("h3", {}, "When"), drawSchedule(found.shards, start, byId("round").clientWidth - 40));
  parts.push(el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Shards" }, shards(found, places)));
  return parts;
}

/** Assignments of each shard, by its place: there may be a backup beside the first. */
function byPlace(shards) {
  const starts = [...new Set(shards.map((shard) => shard.start))].sort((a, b) => a - b);
  return starts.map((start) => shards.filter((shard) => shard.start === start));
}

function leafOf(assigned) {
  const shard = assigned && (assigned.find(({ outcome }) => outcome === "answered") || assigned[0]);
  return shard && { ...shard, seconds: shard.computing === null ? null : shard.end - shard.computing };
}

function shards(found, places) {
  const first = Math.min(...found.shards.map((shard) => shard.begin));
  const counted = new Set(found.counted && found.counted.length ? found.counted : places.keys());
  const rows = places.flatMap((assigned, place) => assigned.map((shard) => [
    place + 1, shard.name || `worker ${shard.worker}`, shard.kind, `${integer(shard.start)}–${integer(shard.start + shard.count - 1)}`,
    duration(Math.max(0, shard.begin - first)), shard.computing === null ? "–" : duration(shard.end - shard.computing),
    shard.end === null ? "–" : duration(shard.end - shard.begin),
    shard.outcome === "answered" ? (counted.has(place) ? "answered" : "answered, not counted") : shard.outcome,
  ]));
  return table("", ["shard#", "worker", "kind", "documents#", "given out after#", "computing#", "until its answer#", "outcome"], rows);
}

/** A click beside the dialog closes it, as Escape does. */
export function closeOutside() {
  const dialog = byId("round");
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
}
