/** Answers as people read them: bars for classes, pictures, tables of values. */

import { h, readable, svg } from "./elements.js";
import { hasClasses, isPicture, isScores } from "./kinds.js";
import { outputPicture } from "./pixels.js";
import { size, textOf } from "./protocol.js";

const SHOWN = 200;
const MOST_BARS = 10;
// Asked for more classes than there are, Triton tells all.
const ALL_CLASSES = 2 ** 30;

/** The output that has a model's classes: labelled, or else a vector; nothing where there is none. */
export const classOutput = ({ outputs }) => outputs.find((output) => output.hasLabels) ?? outputs.find(isScores);

/** How to ask for an output as classes; as it is, where the server tells none. */
export function asClasses(output) {
  const classification = output.dims.some((dim) => dim < 0) ? ALL_CLASSES : size(output.dims);
  return { name: output.name, parameters: { ...(hasClasses(output) ? { classification } : {}), binary_data: true } };
}

/**
 * What to ask a model for: classes with their labels, and all outputs of a few values.
 * @param {import("./models.js").Model} model
 */
export function wanted(model) {
  const classes = classOutput(model);
  const others = model.outputs.filter((output) => output !== classes && (isPicture(output) || Math.abs(size(output.dims)) <= 4));
  const asked = classes ? [asClasses(classes)] : [];
  return [...asked, ...(classes?.hasLabels ? [] : others).map(({ name }) => ({ name, parameters: { binary_data: true } }))];
}

/**
 * Classes with their probabilities, of one row; null where an answer has none.
 * @param {import("./models.js").Model} model
 * @param {import("./protocol.js").Tensor[]} tensors
 * @returns {{label: string, index: number, share: number}[] | null}
 */
export function classes(model, tensors) {
  const output = classOutput(model);
  const tensor = output && tensors.find(({ name }) => name === output.name);
  if (!tensor) return said(model, tensors);
  if (tensor.datatype !== "BYTES") return probabilities(model, Array.from(tensor.data, (score, index) => ({ score, index, label: String(index) })));
  const parts = Array.from(tensor.data, (bytes) => textOf(bytes).split(":"));
  return probabilities(model, parts.map(([score, index, ...label]) => ({ score: Number(score), index: Number(index), label: label.join(":") || index })));
}

/** The class that a pipeline says in words, beside one number for how sure it is. */
function said({ outputs }, tensors) {
  const words = outputs.find(({ datatype, dims }) => datatype === "BYTES" && size(dims) === 1);
  const number = outputs.find(({ datatype, dims }) => datatype.startsWith("FP") && size(dims) === 1);
  const [label, share] = [words, number].map((spec) => tensors.find(({ name }) => name === spec?.name)?.data[0]);
  return label && share !== undefined ? [{ label: textOf(label) ?? "?", index: 0, share }] : null;
}

/** Scores as the model means them: probabilities, or the softmax of what it gives. */
function probabilities({ parameters }, scores) {
  const isDistribution = scores.every(({ score }) => score >= 0) && Math.abs(scores.reduce((sum, { score }) => sum + score, 0) - 1) < 1e-3;
  if (parameters.SCORES === "probabilities" || isDistribution) return scores.map((each) => ({ ...each, share: each.score }));
  const most = Math.max(...scores.map(({ score }) => score));
  const weights = scores.map(({ score }) => Math.exp(score - most));
  const sum = weights.reduce((one, other) => one + other, 0);
  return scores.map((each, place) => ({ ...each, share: weights[place] / sum }));
}

/** Bars that stay where they are while their lengths change. */
export function bars() {
  const element = h("ol", { class: "bars" });
  const rows = new Map();

  /** @param {{label: string, index: number, share: number}[]} list */
  function update(list) {
    const best = [...list].sort((one, other) => other.share - one.share);
    // A few classes keep their order, so that the eye finds them; of many, the best come first.
    const shown = list.length <= MOST_BARS ? [...list].sort((one, other) => one.index - other.index) : best.slice(0, 5);
    for (const [index, row] of rows) if (!shown.some((each) => each.index === index)) (row.remove(), rows.delete(index));
    element.append(...shown.map((each) => filled(each, each === best[0])));
  }

  // By the index: two classes may have one label.
  function filled({ label, index, share }, isBest) {
    const row = rows.get(index) ?? h("li", {}, h("span", { class: "label" }), h("span", { class: "track" }, h("span", { class: "fill" })), h("span", { class: "share" }));
    rows.set(index, row);
    row.querySelector(".label").textContent = label;
    row.classList.toggle("best", isBest);
    row.querySelector(".fill").style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
    row.querySelector(".share").textContent = percent(share);
    return row;
  }
  return { element, update };
}

/** A probability for people. */
export const percent = (share) => (Number.isFinite(share) ? `${(share * 100).toFixed(share > 0.9995 ? 0 : 1)} %` : String(share));

/**
 * Everything in an answer.
 * @param {import("./protocol.js").Tensor[]} tensors
 */
export async function everything(tensors) {
  return h("div", { class: "outputs" }, await Promise.all(tensors.map(output)));
}

async function output(tensor) {
  const { name, datatype, shape } = tensor;
  const dims = shape.length === 4 ? shape.slice(1) : shape;
  const count = size(shape);
  const title = h("h3", {}, name, " ", h("span", { class: "type" }, `${datatype} [${shape.join(", ")}]`));
  const isPlotted = !["BYTES", "BOOL"].includes(datatype) && count > 1 && count <= 1024;
  return h("section", { class: "output" }, title,
    isPicture({ datatype, dims }) && (await outputPicture(tensor)),
    isPlotted && columns(tensor),
    count > 1 && ranges(tensor), values(tensor, count));
}

function ranges({ datatype, data }) {
  if (datatype === "BYTES") return null;
  const numbers = Array.from(data, Number);
  const mean = numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
  const [least, most] = numbers.reduce(([low, high], number) => [Math.min(low, number), Math.max(high, number)], [Infinity, -Infinity]);
  return h("p", { class: "ranges" }, `least ${readable(least)}, mean ${readable(mean)}, most ${readable(most)}`);
}

function values({ datatype, data }, count) {
  const shown = Array.from({ length: Math.min(count, SHOWN) }, (_, place) => shownValue(datatype, data[place]));
  const more = count > SHOWN ? ` … ${(count - SHOWN).toLocaleString("en")} more` : "";
  return h("pre", { class: "values", tabindex: "0", "aria-label": "Values" }, shown.join(datatype === "BYTES" ? "\n" : "  ") + more);
}

function shownValue(datatype, value) {
  if (datatype === "BYTES") return textOf(value) ?? `${value.length} bytes that are no text`;
  if (datatype === "BOOL") return value ? "true" : "false";
  return datatype.includes("FP") || datatype === "BF16" ? readable(Number(value)) : String(value);
}

/** A vector as columns around zero. */
function columns({ data, name }) {
  const numbers = Array.from(data, (number) => (Number.isFinite(Number(number)) ? Number(number) : 0));
  const most = Math.max(...numbers.map(Math.abs), 1e-12);
  const zero = numbers.some((number) => number < 0) ? 50 : 100;
  const lines = numbers.map((number, place) => `M${place + 0.5} ${zero}V${(zero - (number / most) * zero).toFixed(1)}`);
  const drawing = svg("svg", { class: "columns", viewBox: `0 0 ${numbers.length} 100`, preserveAspectRatio: "none", role: "img", "aria-label": `${name} as columns` });
  const path = svg("path", { d: lines.join("") });
  path.style.strokeWidth = `${Math.max(1, Math.min(24, 480 / numbers.length))}px`;
  drawing.append(path);
  return drawing;
}
