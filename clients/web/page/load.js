/** A bounded load from this browser, so that one sees the server form batches. */

import { duration, field, h, readable } from "./elements.js";
import { isLanguage } from "./kinds.js";
import { blanks } from "./models.js";
import { example, infer } from "./server.js";

const MOST = { callers: 64, seconds: 30, requests: 20000 };

/** @param {import("./models.js").Model[]} all */
export function loadPanel(all) {
  const askable = all.filter((model) => !isLanguage(model) && !model.isDecoupled);
  const chosen = h("select", {}, askable.map(({ name }) => h("option", { value: name }, name)));
  const callers = h("input", { type: "number", min: 1, max: MOST.callers, value: 16 });
  const seconds = h("input", { type: "number", min: 1, max: MOST.seconds, value: 10 });
  const starting = h("button", { type: "submit", class: "primary" }, "Send load");
  const stopping = h("button", { type: "button", hidden: true, onclick: () => running?.abort() }, "Stop");
  const result = h("p", { role: "status" });
  let running = null;

  async function start(event) {
    event.preventDefault();
    if (running) return;
    running = new AbortController();
    [starting.hidden, stopping.hidden] = [true, false];
    const model = askable.find(({ name }) => name === chosen.value);
    await load(model, bounded(callers, MOST.callers), bounded(seconds, MOST.seconds), running.signal, (text) => (result.textContent = text));
    running = null;
    [starting.hidden, stopping.hidden] = [false, true];
  }

  return h("section", { class: "card wide" }, h("h2", {}, "Send load"),
    h("p", { class: "hint" }, `From this browser, with each model's example: at most ${readable(MOST.requests)} requests in ${MOST.seconds} s. `
      + "Without TLS a browser opens six connections, so that no batch has more than six requests."),
    h("form", { class: "row fields", onsubmit: start }, field("Model", chosen), field("Callers", callers), field("Seconds", seconds), starting, stopping), result);
}

const bounded = (input, most) => Math.min(most, Math.max(1, Math.round(Number(input.value)) || 1));

async function load(model, callers, seconds, signal, tell) {
  const inputs = (await example(model.name, model.version)) ?? blanks(model);
  const began = performance.now();
  const times = [];
  let [sent, failed, reason] = [0, 0, ""];
  const report = (end) => {
    const spent = (performance.now() - began) / 1000;
    const sorted = [...times].sort((one, other) => one - other);
    const at = (share) => duration(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]);
    const figures = times.length ? `${readable(times.length / spent)} requests/s, p50 ${at(0.5)}, p99 ${at(0.99)}` : "";
    tell([`${end}${readable(times.length)} answers`, figures, failed && `${readable(failed)} failed: ${reason}`].filter(Boolean).join(", "));
  };
  const isOver = () => signal.aborted || sent >= MOST.requests || performance.now() - began > seconds * 1000;
  async function caller() {
    while (!isOver()) {
      sent += 1;
      const start = performance.now();
      try {
        await infer(model.name, inputs, [], signal);
        times.push((performance.now() - start) * 1000);
      } catch (error) {
        if (signal.aborted) return;
        [failed, reason] = [failed + 1, error.message];
        // Whoever is refused does not ask again at once.
        await new Promise((wake) => setTimeout(wake, 200));
      }
    }
  }
  const ticking = setInterval(() => report(""), 500);
  await Promise.all(Array.from({ length: callers }, caller));
  clearInterval(ticking);
  report("Done: ");
}
