/** Any model: a form of its inputs, filled with an example, and everything that it answers. */

import { asClasses, bars, classes, classOutput, everything } from "./answers.js";
import { duration, field, h } from "./elements.js";
import { blank, usualShape } from "./models.js";
import { cast, generated, size, textOf, written } from "./protocol.js";
import { example, infer, stream, streamOf } from "./server.js";

// Longer tensors are not shown as text: a browser is slow with these.
const LONGEST = 4096;

/**
 * The panel of any model.
 * @param {import("./models.js").Model} model
 * @param {(inputs: import("./protocol.js").Tensor[]) => void} asked is told what was sent
 */
export function formPanel(model, asked) {
  const entries = model.inputs.map((spec) => entry(model, spec));
  const answer = h("div", { class: "card", "aria-live": "polite" }, h("p", { class: "empty" }, "The answer appears here."));
  const sending = h("button", { type: "submit", class: "primary" }, "Send");

  async function fill() {
    const tensors = await example(model.name, model.version);
    for (const each of entries) each.set(tensors?.find(({ name }) => name === each.name));
    asked(sent());
  }

  const sent = () => entries.map((each) => each.tensor()).filter(Boolean);

  async function send(event) {
    event.preventDefault();
    sending.disabled = true;
    try {
      await filling;
      const inputs = sent();
      asked(inputs);
      const began = performance.now();
      const shown = model.isDecoupled ? await events(inputs) : await whole(inputs);
      answer.replaceChildren(h("header", {}, h("h2", {}, "Answer"), h("span", { class: "time" }, duration((performance.now() - began) * 1000))), ...shown);
    } catch (error) {
      answer.replaceChildren(h("p", { class: "notice", role: "alert" }, error.message));
    }
    sending.disabled = false;
  }

  async function whole(inputs) {
    const tensors = await infer(model.name, inputs);
    const found = classOutput(model) && size(tensors[0].shape.slice(0, model.maxBatch ? 1 : 0)) === 1 ? classes(model, tensors) : null;
    if (!found) return [await everything(tensors)];
    const shown = bars();
    shown.update(await named(inputs, found));
    return [shown.element, await everything(tensors)];
  }

  /** Classes with the labels that the server has. */
  async function named(inputs, found) {
    const output = classOutput(model);
    if (!output.hasLabels) return found;
    return classes(model, await infer(model.name, inputs, [asClasses(output)]));
  }

  /** A model with many answers to one request answers a stream only. */
  async function events(inputs) {
    const list = h("pre", { class: "values", tabindex: "0", "aria-label": "Events" });
    for await (const event of stream(streamOf(model.name), generated(inputs), AbortSignal.timeout(60000))) list.append(`${JSON.stringify(event)}\n`);
    return [list];
  }

  // Who is quicker than the example waits for it.
  let filling = fill();
  const form = h("form", { class: "card", onsubmit: send }, entries.map(({ element }) => element),
    h("div", { class: "row end" }, h("button", { type: "button", onclick: () => (filling = fill()) }, "Example"), sending));
  return { element: h("div", { class: "generic" }, form, answer), close: () => {} };
}

/** What a text of values says: JSON, or values with blanks or commas between them. */
function read(text) {
  const trimmed = text.trim();
  if (trimmed.startsWith("[")) return JSON.parse(trimmed).flat(Infinity);
  return trimmed ? trimmed.split(/[\s,]+/) : [];
}

/** The fields of one input. */
function entry(model, spec) {
  const { name, datatype, optional } = spec;
  const shape = h("input", { type: "text", inputmode: "numeric", class: "mono", size: 14 });
  const text = h("textarea", { rows: 3, class: "mono", spellcheck: "false" });
  const file = datatype === "BYTES" && h("input", { type: "file", onchange: async () => set({ ...blank(model, spec), data: [new Uint8Array(await file.files[0].arrayBuffer())] }) });
  const summary = h("p", { class: "hint" });
  let kept = null;

  /** Fill the fields; without a tensor, with zeros, and an optional one with nothing. */
  function set(tensor = optional ? null : blank(model, spec)) {
    shape.value = (tensor?.shape ?? usualShape(model, spec)).join(", ");
    const texts = tensor && datatype === "BYTES" ? tensor.data.map(textOf) : null;
    const isHidden = tensor && (tensor.data.length > LONGEST || texts?.includes(null));
    kept = isHidden ? tensor : null;
    text.hidden = isHidden;
    text.value = !tensor || isHidden ? "" : texts ? texts.join("\n") : Array.from(tensor.data, (value) => written(datatype, value)).join(" ");
    summary.textContent = !isHidden ? "" : texts ? `${tensor.data[0].length.toLocaleString("en")} bytes` : `${tensor.data.length.toLocaleString("en")} values of the example`;
  }

  /** The tensor as it is in the fields; null where an optional one is left empty. */
  function tensor() {
    const dims = shape.value.split(/[\s,x]+/).filter(Boolean).map(Number);
    if (!dims.every((dim) => Number.isInteger(dim) && dim >= 0)) throw new Error(`${name}: expected a shape such as 1, 4; got ${shape.value}`);
    if (kept) return { ...kept, shape: dims };
    if (optional && !text.value) return null;
    const count = size(dims);
    const values = datatype !== "BYTES" ? read(text.value) : count === 1 ? [text.value] : text.value.split("\n");
    // One value stands for all.
    const all = values.length === 1 && count > 1 ? Array(count).fill(values[0]) : values;
    if (all.length !== count) throw new Error(`${name}: the shape [${dims.join(", ")}] has ${count} values, got ${all.length}`);
    try {
      return { name, datatype, shape: dims, data: cast(datatype, all) };
    } catch (error) {
      throw new Error(`${name}: ${error.message}`);
    }
  }

  const dims = spec.dims.map((dim) => (dim < 0 ? "any" : dim)).join(" × ");
  const title = h("legend", {}, name, " ", h("span", { class: "type" }, `${datatype} [${dims}]${optional ? ", optional" : ""}`));
  const labelled = field(datatype === "BYTES" ? "Text" : "Values", text);
  const element = h("fieldset", {}, title, field("Shape", shape), labelled, summary, file && field("Or a file", file));
  return { name, element, set, tensor };
}
