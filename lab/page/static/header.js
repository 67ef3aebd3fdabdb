// The head of the page: which run, how it goes, how far it is.

import { attribute, byId, say } from "./dom.js";
import { bytes, decimal, duration, integer, rate } from "./format.js";
import { meanWindow, runningMean } from "./series.js";

const PHASES = {
  waiting: "waiting for workers", running: "running", paused: "paused", finished: "finished",
  stopped: "stopped", failed: "failed", killed: "killed", unknown: "unknown",
};
const PROMISES = {
  exact: "exact: same bits for any number of workers",
  replayable: "replayable: timing decides, the record gives the same bits again",
};
const OVER = ["finished", "stopped", "failed", "killed"];

export class Header {
  /** @param {import("./store.js").Store} store */
  constructor(store) {
    this.store = store;
    this.phase = "";
    this.open = false; // the connection
    byId("copy-digest").addEventListener("click", () => this.copy());
  }

  drawRun() {
    const { run } = this.store;
    if (!run) return;
    say(byId("run-name"), run.name || run.id || "a run");
    say(byId("strategy"), run.strategy ? `strategy ${run.strategy}` : "");
    say(byId("promise"), run.promise || "");
    byId("promise").title = PROMISES[run.promise] || "";
    document.title = `${run.name || run.id || "a run"} · microGPT`;
  }

  draw() {
    const { state, steps, validations } = this.store;
    const total = state.steps || this.store.run?.steps || 0;
    const pill = byId("phase");
    say(pill, PHASES[state.phase] || state.phase);
    attribute(pill, "data-phase", state.phase);
    const share = total ? Math.min(1, state.step / total) : 0;
    byId("progress").value = share;
    const over = OVER.includes(state.phase);
    const left = over ? "" : state.seconds_left === null ? "" : ` · ${duration(state.seconds_left)} left`;
    say(byId("progress-text"), `${(share * 100).toFixed(share === 1 ? 0 : 1)} %${left}`);
    this.reason(over);
    if (this.open) say(byId("connection"), over ? "connected" : "live");
    const last = steps.length - 1;
    say(byId("tile-loss"), last < 0 ? "–" : decimal(runningMean(steps, meanWindow(steps))[last], 4));
    const held = validations[validations.length - 1];
    say(byId("tile-validation"), held ? decimal(held[1], 4) : "–");
    say(byId("tile-step"), `${integer(state.step)} / ${integer(total)}`);
    say(byId("tile-rate"), rate(state.documents_per_second, "").trim());
    say(byId("tile-left"), over ? "–" : duration(state.seconds_left));
    say(byId("tile-sent"), `${bytes(state.bytes_sent_per_step)} sent`);
    say(byId("tile-received"), `${bytes(state.bytes_received_per_step)} received`);
    this.digest();
    if (this.phase && this.phase !== state.phase) say(byId("said"), `The run is ${PHASES[state.phase]}.`);
    this.phase = state.phase;
  }

  reason(over) {
    const { state, problem } = this.store;
    const element = byId("reason");
    const told = (over && state.phase !== "finished") || state.phase === "waiting";
    const text = [problem, told ? state.reason : ""].filter(Boolean).join(" · ");
    element.hidden = !text;
    say(element, text);
    attribute(element, "data-phase", state.phase);
  }

  digest() {
    const { state_sha256: digest, checkpoint } = this.store.state;
    say(byId("digest"), digest ? `${digest.slice(0, 12)}…` : "–");
    byId("digest").title = digest || "";
    say(byId("digest-of"), digest ? `of step ${integer(checkpoint)}` : "");
    byId("copy-digest").disabled = !digest;
  }

  async copy() {
    const button = byId("copy-digest");
    const digest = this.store.state.state_sha256;
    try {
      await navigator.clipboard.writeText(digest);
      say(button, "Copied");
    } catch {
      say(byId("digest"), digest); // nothing may be copied here: all of it, to be marked by hand
      say(button, "Shown");
    }
    say(byId("said"), `Digest of the state: ${button.textContent.toLowerCase()}.`);
    setTimeout(() => say(button, "Copy"), 2000);
  }

  /** @param {"open"|"lost"} status @param {number} tries */
  connection(status, tries) {
    const chip = byId("connection");
    attribute(chip, "data-status", status);
    const over = OVER.includes(this.store.state.phase);
    this.open = status === "open";
    if (this.open) {
      say(chip, over ? "connected" : "live");
      return;
    }
    const known = this.store.run !== null;
    const text = over ? "server has ended; what is shown stays" : "connection lost, trying again";
    say(chip, known ? text : tries > 1 ? "no answer, trying again" : "connecting");
  }
}
