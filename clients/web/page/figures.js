/** Triton's counters for each model, from its metrics; how long a request was in each stage. */

import { duration, h } from "./elements.js";
import { send } from "./server.js";

/**
 * @typedef {Object} Figures sums since the server began
 * @property {number} requests
 * @property {number} failures
 * @property {number} rows
 * @property {number} executions
 * @property {number} total microseconds of whole requests, and of their stages:
 * @property {number} queue
 * @property {number} input
 * @property {number} infer
 * @property {number} output
 * @property {Record<string, number>} quantiles microseconds of whole requests, where the server has them
 * @property {Record<string, number>} buckets counts of executions by their longest seconds, where the backend has them
 */

const NAMES = {
  nv_inference_request_success: "requests", nv_inference_request_failure: "failures", nv_inference_count: "rows",
  nv_inference_exec_count: "executions", nv_inference_request_duration_us: "total", nv_inference_queue_duration_us: "queue",
  nv_inference_compute_input_duration_us: "input", nv_inference_compute_infer_duration_us: "infer",
  nv_inference_compute_output_duration_us: "output",
};
const SAMPLE = /^(\w+)\{(.*)\} (\S+)$/;
const NOTHING = { ...Object.fromEntries(Object.values(NAMES).map((name) => [name, 0])), quantiles: {}, buckets: {} };

/**
 * The figures of all models, of all servers together.
 * @returns {Promise<Map<string, Figures>>}
 */
export async function figures() {
  const found = new Map();
  for (const line of (await (await send("/web/metrics")).text()).split("\n")) {
    const [, name, labels, value] = line.match(SAMPLE) ?? [];
    const { model, quantile, le } = Object.fromEntries(Array.from((labels ?? "").matchAll(/(\w+)="([^"]*)"/g), ([, key, text]) => [key, text]));
    if (!model) continue;
    if (!found.has(model)) found.set(model, { ...NOTHING, quantiles: {}, buckets: {} });
    const own = found.get(model);
    if (NAMES[name]) own[NAMES[name]] += Number(value);
    // Quantiles of several servers cannot be added up: the slowest is told.
    else if (name === "nv_inference_request_summary_us" && quantile) own.quantiles[quantile] = Math.max(own.quantiles[quantile] ?? 0, Number(value));
    else if (le) own.buckets[le] = (own.buckets[le] ?? 0) + Number(value);
  }
  return found;
}

/** What has come since earlier figures. @returns {Figures} */
export function since(now = NOTHING, before = NOTHING) {
  const change = (name) => now[name] - before[name];
  const buckets = Object.fromEntries(Object.entries(now.buckets).map(([le, count]) => [le, count - (before.buckets[le] ?? 0)]));
  const sums = Object.fromEntries(Object.values(NAMES).map((name) => [name, change(name)]));
  // A server that began anew counts from zero.
  return sums.requests < 0 ? { ...now } : { ...sums, quantiles: now.quantiles, buckets };
}

/** Microseconds below which a share of all executions stayed, by a histogram; NaN without one. */
export function quantile(buckets, share) {
  const sorted = Object.entries(buckets).map(([le, count]) => [le === "+Inf" ? Infinity : Number(le), count]).sort(([one], [other]) => one - other);
  const all = sorted.at(-1)?.[1];
  if (!all) return NaN;
  let [low, under] = [0, 0];
  for (const [le, count] of sorted) {
    if (count >= share * all) return 1e6 * (le === Infinity ? low : low + (le - low) * ((share * all - under) / (count - under || 1)));
    [low, under] = [le, count];
  }
  return NaN;
}

/** What a single model does with a request; what a pipeline does is told by its steps. */
const STAGES = { input: "input", infer: "compute", output: "output" };

/**
 * Where the time of a request went: a bar with a part for each stage, or for each model that worked for it.
 * @param {{name: string, change: Figures}[]} parts
 */
export function stages(parts) {
  const worked = parts.filter(({ change }) => change.requests > 0);
  if (!worked.length) return h("p", { class: "hint" }, "The server tells no figures of this.");
  const mean = (change, ...names) => names.reduce((sum, name) => sum + change[name], 0) / change.requests;
  const waited = worked.reduce((sum, { change }) => sum + mean(change, "queue"), 0);
  const spans = parts.length > 1
    ? worked.map(({ name, change }) => [name, mean(change, "input", "infer", "output")])
    : Object.entries(STAGES).map(([stage, text]) => [text, mean(worked[0].change, stage)]);
  const all = [["queue", waited], ...spans];
  const bar = h("div", { class: "stages", role: "img", "aria-label": all.map(([name, time]) => `${name} ${duration(time)}`).join(", ") },
    all.map(([, time], place) => {
      const span = h("span", { class: `stage part-${place}` });
      span.style.flexGrow = String(time);
      return span;
    }));
  const rows = all.map(([name, time], place) => h("div", {}, h("dt", {}, h("span", { class: `key part-${place}` }), name), h("dd", {}, duration(time))));
  return h("div", { class: "timing" }, bar, h("dl", { class: "legend" }, rows));
}
