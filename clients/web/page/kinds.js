/** The rules by which a model gets its panel: from datatypes, shapes, labels and steps, never from its name. */

/**
 * @typedef {Object} Pixels how a model takes pictures
 * @property {string} input its name
 * @property {"file"|"bytes"|"floats"} form an encoded file, UINT8 [H, W, C], or floats that are prepared here
 * @property {number} channels 1 or 3
 * @property {number} [width] of floats; bytes have any size
 * @property {number} [height]
 * @property {boolean} [isPlanar] channels first
 * @property {number[]} [dims] as the model has them
 */

const SIDES = { least: 8, most: 1024 };

/**
 * How a model is tried.
 * @param {import("./models.js").Model} model
 * @param {import("./models.js").Model[]} all
 * @returns {"language"|"drawing"|"picture"|"form"}
 */
export function kindOf(model, all) {
  if (isLanguage(model)) return "language";
  const pixels = pixelsOf(model, all);
  if (!pixels || !tells(model)) return "form";
  return pixels.channels === 1 ? "drawing" : "picture";
}

/** Whether a model takes and gives texts as those behind the vLLM backend do. */
export const isLanguage = ({ inputs, outputs }) => has(inputs, "text_input") && has(outputs, "text_output");

/** Whether an answer means something without further models: classes, a vector, a text, or a picture. */
function tells({ outputs }) {
  return outputs.some((output) => output.hasLabels || output.datatype === "BYTES" || isPicture(output) || isScores(output));
}

/** Whether Triton tells classes of an output: not of all numbers; and texts, asked for as classes, end version 2.51. */
export const hasClasses = ({ datatype }) => /^(U?INT(8|16|32|64)|FP(32|64))$/.test(datatype);

/** Whether an output is a vector of scores; one that could be a picture is more likely on its way to another model. */
export const isScores = ({ datatype, dims }) =>
  datatype.startsWith("FP") && dims.length === 1 && dims[0] > 1 && !shapeOf({ parameters: {} }, dims);

/**
 * How a model takes a picture; null if it does not.
 * @returns {Pixels | null}
 */
export function pixelsOf(model, all) {
  const needed = model.inputs.filter(({ optional }) => !optional);
  if (needed.length !== 1) return null;
  const [{ name: input, datatype, dims }] = needed;
  if (datatype === "BYTES" && dims.length === 1) {
    return decodes(model, input, all) ? { input, form: "file", channels: channelsOfFile(model, all) } : null;
  }
  // Without batches, the dims may begin with a row of one picture.
  const inner = dims.length === 4 && (dims[0] === 1 || dims[0] === -1) ? dims.slice(1) : dims;
  if (datatype === "UINT8" && inner.length === 3 && [-1, 1, 3].includes(inner[2])) {
    const [height, width] = inner;
    return { input, form: "bytes", channels: inner[2] === 3 ? 3 : 1, ...(height > 0 && width > 0 ? { height, width } : {}), dims };
  }
  const shape = /^FP(16|32|64)$/.test(datatype) && shapeOf(model, inner);
  return shape ? { input, form: "floats", dims, ...shape } : null;
}

/** Channels and sides of floats that are a picture: flat, planes, or pixel by pixel. */
function shapeOf({ parameters }, dims) {
  const told = parameters.IMAGE_SHAPE?.split("x").map(Number);
  const isSide = (side) => side >= SIDES.least && side <= SIDES.most;
  const side = Math.sqrt(dims[0]);
  const [channels, height, width] =
    dims.length === 1 ? told ?? [1, side, side]
    : dims.length === 2 ? [1, ...dims]
    : dims.length === 3 && [1, 3].includes(dims[0]) ? dims
    : dims.length === 3 && [1, 3].includes(dims[2]) ? [dims[2], dims[0], dims[1]]
    : [];
  if (![1, 3].includes(channels) || !isSide(height) || !isSide(width) || !Number.isInteger(height)) return null;
  // Without a word in the config, a matrix or a vector is more often something else: only a square one is a picture.
  if (dims.length < 3 && height !== width) return null;
  return { channels, height, width, isPlanar: dims.length < 3 || channels === dims[0] };
}

/** Whether a model turns the texts of an input into pixels: it gives them, or the step does that takes the input. */
function decodes(model, input, all) {
  if (!model.steps.length) return model.outputs.some(isPicture);
  const step = model.steps.find(({ inputs }) => Object.values(inputs).includes(input));
  const taker = step && all.find(({ name }) => name === step.model);
  if (!taker) return false;
  const inner = Object.keys(step.inputs).find((name) => step.inputs[name] === input);
  return decodes(taker, inner, all);
}

/** What comes after the decoder tells whether a file may be a drawing in one color. */
function channelsOfFile(model, all) {
  return parts(model, all).map((taker) => pixelsOf(taker, all)).find((pixels) => pixels && pixels.form !== "file")?.channels ?? 3;
}

/** Whether an output is a picture: UINT8 [H, W, 1 or 3]. */
export const isPicture = ({ datatype, dims }) => datatype === "UINT8" && dims.length === 3 && [1, 3].includes(dims[2]);

/**
 * The models that answer to the same picture: those that a model is made of, and those that are made of it.
 * @returns {import("./models.js").Model[]}
 */
export function family(model, all) {
  const kind = kindOf(model, all);
  if (model.outputs.every(({ dims }) => isOpen(dims))) return [model];
  const contains = (outer, inner) => parts(outer, all).some((part) => part === inner || contains(part, inner));
  const isRelated = (other) => other === model || contains(model, other) || contains(other, model);
  return all.filter((other) => isRelated(other) && kindOf(other, all) === kind && other.outputs.some(({ dims }) => !isOpen(dims)))
    .sort((one, other) => one.steps.length - other.steps.length);
}

/** The models that an ensemble consists of, in its order. */
export const parts = (model, all) => model.steps.map((step) => all.find(({ name }) => name === step.model)).filter(Boolean);

const isOpen = (dims) => dims.some((dim) => dim < 0);
const has = (specs, name) => specs.some((spec) => spec.name === name);
