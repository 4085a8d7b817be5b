/** What all models are doing now, by the server's own counters. */

import { duration, h, readable, svg } from "./elements.js";
import { figures, quantile, since } from "./figures.js";
import { loadPanel } from "./load.js";

const EVERY_MS = 1000;
const KEPT = 60;
// Quantiles are of the latest seconds: of one alone there may be few requests.
const WINDOW = 10;

/**
 * The live view.
 * @param {import("./models.js").Model[]} all
 */
export function livePanel(all) {
  const body = h("tbody");
  const heads = ["Model", "Requests/s", "p50", "p99", "Mean batch", "Queue", "Compute", "Failed/s", "Last minute"];
  const table = h("table", { class: "figures-table" }, h("caption", { class: "visually-hidden" }, "Figures of each model, every second"),
    h("thead", {}, h("tr", {}, heads.map((text, place) => h("th", { scope: "col", class: place ? "number" : "" }, text)))), body);
  const note = h("p", { class: "hint" });
  const problem = h("p", { class: "notice", role: "alert", hidden: true });
  /** @type {{at: number, models: Map<string, import("./figures.js").Figures>}[]} */
  let past = [];
  const rates = new Map();
  let isOpen = true;

  async function look() {
    while (isOpen) {
      if (!document.hidden) await once();
      await new Promise((wake) => setTimeout(wake, EVERY_MS));
    }
  }

  async function once() {
    try {
      past = [...past, { at: performance.now(), models: await figures() }].slice(-WINDOW - 1);
      problem.hidden = true;
      show();
    } catch (error) {
      past = [];
      problem.textContent = error.message;
      problem.hidden = !error.status;
    }
  }

  function show() {
    const [now, before, first] = [past.at(-1), past.at(-2) ?? past[0], past[0]];
    const seconds = (now.at - before.at) / 1000 || 1;
    const names = all.map(({ name }) => name).filter((name) => now.models.get(name)?.requests);
    const isBusy = (name) => Number(now.models.get(name).requests > (first.models.get(name)?.requests ?? 0));
    const rows = names.sort((one, other) => isBusy(other) - isBusy(one)).map((name) => {
      const change = since(now.models.get(name), before.models.get(name));
      const history = [...(rates.get(name) ?? []), change.requests / seconds].slice(-KEPT);
      rates.set(name, history);
      return row(name, change, since(now.models.get(name), first.models.get(name)), seconds, history);
    });
    body.replaceChildren(...(rows.length ? rows : [h("tr", {}, h("td", { colspan: heads.length, class: "empty" }, "No model has been asked yet."))]));
    note.textContent = hasSummaries(now.models)
      ? "p50 and p99 are of whole requests, by the server's summaries."
      : "p50 and p99 are of the computation in the latest ten seconds, where the backend has histograms of it. Those of whole requests come with --metrics-config=summary_latencies=true.";
  }

  look();
  const element = h("div", {}, h("section", { class: "card wide" }, h("h2", {}, "Now"), problem,
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Figures" }, table), note), loadPanel(all));
  return { element, close: () => (isOpen = false) };
}

const hasSummaries = (models) => [...models.values()].some(({ quantiles }) => quantiles["0.5"] !== undefined);

function row(name, change, recent, seconds, history) {
  const each = (sum) => (change.requests ? duration(sum / change.requests) : "–");
  const of = (share) => duration(recent.quantiles[share] ?? (recent.requests ? quantile(recent.buckets, share) : NaN));
  const cells = [
    readable(Math.round((change.requests / seconds) * 10) / 10), of("0.5"), of("0.99"),
    change.executions ? readable(change.rows / change.executions) : "–", each(change.queue),
    each(change.input + change.infer + change.output), change.failures ? readable(change.failures / seconds) : "–",
  ];
  return h("tr", { class: change.requests ? "busy" : "" },
    h("th", { scope: "row" }, h("a", { href: `#/models/${encodeURIComponent(name)}` }, name)),
    cells.map((text) => h("td", { class: "number" }, text)), h("td", { class: "number" }, spark(history)));
}

/** Requests per second of the last minute, as a line. */
function spark(history) {
  const most = Math.max(...history, 1e-9);
  const points = history.map((rate, place) => `${((place + KEPT - history.length) * 96) / (KEPT - 1)},${(22 - (20 * rate) / most).toFixed(1)}`);
  const label = `at most ${readable(most)} requests/s`;
  return svg("svg", { class: "spark", viewBox: "0 0 96 24", width: 96, height: 24, role: "img", "aria-label": label }, svg("polyline", { points: points.join(" ") }));
}
