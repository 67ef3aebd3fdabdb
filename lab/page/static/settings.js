// Settings of the run, and what makes its life hard.

import { byId, el } from "./dom.js";
import { byName, integer } from "./format.js";

/** @param {import("./store.js").Store} store draws what does not change while a run goes on */
export function drawSettings({ run }) {
  if (!run) return;
  const conditions = run.conditions || [];
  byId("conditions").replaceChildren(
    conditions.length
      ? el("ul", { class: "conditions", "aria-label": "Conditions in force" },
          ...conditions.map((text) => el("li", {}, el("code", {}, text))))
      : el("p", { class: "missing" }, "No conditions: neither slow links nor machines, no failures, no liars."),
  );
  const known = Object.entries(run.settings || {}).filter(([, value]) => value !== null && value !== "");
  known.sort((a, b) => byName(a[0], b[0]));
  if (run.parameters) known.unshift(["parameters", run.parameters]);
  byId("settings").replaceChildren(
    el("table", {}, el("tbody", {}, ...known.map(([name, value]) =>
      el("tr", {}, el("th", { scope: "row" }, name.replaceAll("_", " ")), el("td", {}, el("code", {}, text(value))))))),
  );
}

function text(value) {
  if (typeof value === "number") return Number.isInteger(value) ? integer(value) : String(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "string" ? value : JSON.stringify(value);
}
