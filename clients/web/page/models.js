/** The models of the server, as their configs describe them. */

import { hasClasses, parts } from "./kinds.js";
import { size, zeros } from "./protocol.js";
import * as server from "./server.js";

/**
 * @typedef {Object} Spec a tensor of a model
 * @property {string} name
 * @property {string} datatype as V2 has it
 * @property {number[]} dims without the batch
 * @property {boolean} optional
 * @property {boolean} hasLabels whether the server tells its classes by their labels
 *
 * @typedef {Object} Model
 * @property {string} name
 * @property {string} version the newest that is served
 * @property {Spec[]} inputs
 * @property {Spec[]} outputs
 * @property {number} maxBatch 0 without batches
 * @property {boolean} batches whether the server forms batches of requests
 * @property {boolean} isDecoupled whether one request may have many answers
 * @property {{model: string, inputs: Record<string, string>}[]} steps of an ensemble
 * @property {Record<string, string>} parameters
 * @property {string} backend
 */

/**
 * All models that can be asked, and why others cannot.
 * @returns {Promise<{models: Model[], failed: {name: string, reason: string}[]}>}
 */
export async function listed() {
  const entries = await index();
  const ready = new Map();
  for (const { name, version, state } of entries) {
    if (state === "READY" && Number(version ?? 0) >= Number(ready.get(name) ?? 0)) ready.set(name, version);
  }
  const failed = entries.filter(({ name, state, reason }) => state === "UNAVAILABLE" && reason && reason !== "unloaded" && !ready.has(name));
  const models = await Promise.all([...ready].map(([name, version]) => modelOf(name, version)));
  return { models: models.filter(Boolean).sort((one, other) => one.name.localeCompare(other.name)), failed };
}

/** The list of models; where that is closed, those that have statistics. */
async function index() {
  try {
    return await (await server.post("/v2/repository/index", {})).json();
  } catch (error) {
    if (error.status !== 403) throw error;
    return (await server.ask("/v2/models/stats")).model_stats.map(({ name, version }) => ({ name, version, state: "READY" }));
  }
}

/** A model; nothing if it has just been unloaded. */
async function modelOf(name, version) {
  const config = await server.configOf(name).catch((error) => {
    if (error.status === 400 || error.status === 404) return null;
    throw error;
  });
  return config && {
    name,
    version,
    inputs: (config.input ?? []).map(specOf),
    outputs: (config.output ?? []).map(specOf),
    maxBatch: Number(config.max_batch_size ?? 0),
    batches: Boolean(config.dynamic_batching || config.sequence_batching),
    isDecoupled: Boolean(config.model_transaction_policy?.decoupled),
    steps: (config.ensemble_scheduling?.step ?? []).map(({ model_name, input_map }) => ({ model: model_name, inputs: input_map })),
    parameters: Object.fromEntries(
      Object.entries(config.parameters ?? {}).map(([key, value]) => [key, value.string_value])),
    backend: config.backend || config.platform,
  };
}

/** A tensor, as a config describes it. @returns {Spec} */
export function specOf({ name, data_type, dims, optional, label_filename }) {
  const datatype = data_type.replace("TYPE_", "").replace("STRING", "BYTES");
  return { name, datatype, dims: dims.map(Number), optional: Boolean(optional), hasLabels: Boolean(label_filename) && hasClasses({ datatype }) };
}

/** The models that work for an ensemble, in the order in which they do; the model itself if it is none. */
export const workers = (model, all) => (model.steps.length ? parts(model, all).flatMap((part) => workers(part, all)) : [model]);

/** A shape of one request: a row of a batch, and 1 where a dim is open. */
export const usualShape = (model, spec) =>
  [...(model.maxBatch ? [1] : []), ...spec.dims.map((dim) => (dim < 0 ? 1 : dim))];

/** A tensor of zeros, or of empty texts, of the usual shape. @returns {import("./protocol.js").Tensor} */
export function blank(model, spec) {
  const shape = usualShape(model, spec);
  return { name: spec.name, datatype: spec.datatype, shape, data: zeros(spec.datatype, size(shape)) };
}

/** What a model can be asked without knowing more of it. */
export const blanks = (model) => model.inputs.filter(({ optional }) => !optional).map((spec) => blank(model, spec));
