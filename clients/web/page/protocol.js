/** KServe's V2 protocol with its binary tensor extension: tensors to bytes, bytes to tensors. */

/**
 * @typedef {Object} Tensor
 * @property {string} name
 * @property {string} datatype as V2 has it: FP32, BYTES …
 * @property {number[]} shape
 * @property {ArrayLike<any>} data one value for each element; BYTES are Uint8Arrays
 */

const ARRAYS = {
  BOOL: Uint8Array, UINT8: Uint8Array, UINT16: Uint16Array, UINT32: Uint32Array, UINT64: BigUint64Array,
  INT8: Int8Array, INT16: Int16Array, INT32: Int32Array, INT64: BigInt64Array,
  FP16: Uint16Array, BF16: Uint16Array, FP32: Float32Array, FP64: Float64Array,
};
const TEXT = new TextEncoder();

/** How many elements a shape has. */
export const size = (shape) => shape.reduce((product, dim) => product * dim, 1);

/** A list of a datatype with a number of zeros, or empty texts. */
export function zeros(datatype, count) {
  if (datatype === "BYTES") return Array.from({ length: count }, () => new Uint8Array());
  return new (isHalf(datatype) ? Float32Array : ARRAYS[datatype])(count);
}

/** Values as the datatype has them, from numbers or texts. @throws {Error} one is none */
export function cast(datatype, values) {
  if (datatype === "BYTES") return values.map((value) => (typeof value === "string" ? TEXT.encode(value) : value));
  if (datatype === "INT64" || datatype === "UINT64") return ARRAYS[datatype].from(values, BigInt);
  const numbers = values.map((value) => (value === true || value === "true" ? 1 : value === false || value === "false" ? 0 : Number(value)));
  const odd = numbers.findIndex((number, place) => Number.isNaN(number) && String(values[place]) !== "NaN");
  if (odd >= 0) throw new Error(`expected numbers of ${datatype}, got “${values[odd]}”`);
  return (isHalf(datatype) ? Float32Array : ARRAYS[datatype]).from(numbers);
}

/**
 * The body of an inference, and the length of its JSON.
 * @param {Tensor[]} inputs
 * @param {Object[]} outputs as V2 has them; empty for all
 */
export function encode(inputs, outputs) {
  const parts = inputs.map(({ datatype, data }) => bytesOf(datatype, data));
  const head = {
    inputs: inputs.map(({ name, shape, datatype }, place) =>
      ({ name, shape, datatype, parameters: { binary_data_size: parts[place].byteLength } })),
    ...(outputs.length ? { outputs } : {}),
    parameters: { binary_data_output: true },
  };
  const json = TEXT.encode(JSON.stringify(head));
  return { length: json.length, body: new Blob([json, ...parts]) };
}

/**
 * The tensors of an answer, or of a request.
 * @param {ArrayBuffer} buffer
 * @param {number} length of its JSON
 * @returns {Tensor[]}
 */
export function decode(buffer, length) {
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 0, length)));
  let place = length;
  return (head.outputs ?? head.inputs).map(({ name, datatype, shape, parameters, data }) => {
    const bytes = parameters?.binary_data_size;
    if (bytes === undefined) return { name, datatype, shape: shape.map(Number), data: cast(datatype, data.flat(Infinity)) };
    const part = buffer.slice(place, (place += bytes));
    return { name, datatype, shape: shape.map(Number), data: valuesOf(datatype, part) };
  });
}

const isHalf = (datatype) => datatype === "FP16" || datatype === "BF16";

function bytesOf(datatype, data) {
  if (isHalf(datatype)) return Uint16Array.from(data, datatype === "FP16" ? toHalf : (value) => bits(value) >>> 16);
  if (datatype !== "BYTES") return data;
  const bytes = new Uint8Array(data.reduce((sum, text) => sum + 4 + text.length, 0));
  let place = 0;
  for (const text of data) {
    new DataView(bytes.buffer).setUint32(place, text.length, true);
    bytes.set(text, place + 4);
    place += 4 + text.length;
  }
  return bytes;
}

function valuesOf(datatype, buffer) {
  if (datatype !== "BYTES") {
    const values = new ARRAYS[datatype](buffer);
    return isHalf(datatype) ? Float32Array.from(values, datatype === "FP16" ? fromHalf : (half) => float(half << 16)) : values;
  }
  const texts = [];
  for (let place = 0; place < buffer.byteLength; ) {
    const length = new DataView(buffer).getUint32(place, true);
    texts.push(new Uint8Array(buffer, place + 4, length));
    place += 4 + length;
  }
  return texts;
}

const cell = new DataView(new ArrayBuffer(4));
const bits = (value) => (cell.setFloat32(0, value), cell.getUint32(0));
const float = (pattern) => (cell.setUint32(0, pattern), cell.getFloat32(0));

function toHalf(value) {
  const sign = bits(value) >>> 31 << 15;
  const size = Math.abs(value);
  if (Number.isNaN(value)) return 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  if (size < 2 ** -14) return sign | Math.round(size * 2 ** 24);
  const power = Math.floor(Math.log2(size));
  return sign | ((power + 15) << 10) + Math.round((size / 2 ** power - 1) * 1024);
}

function fromHalf(half) {
  const sign = half >>> 15 ? -1 : 1;
  const power = (half >>> 10) & 31;
  const fraction = half & 1023;
  if (power === 31) return fraction ? NaN : sign * Infinity;
  return sign * (power ? (1 + fraction / 1024) * 2 ** (power - 15) : fraction * 2 ** -24);
}

/** A value as a short text that reads back as the same. */
export function written(datatype, value) {
  if (datatype !== "FP32") return String(value);
  for (let digits = 1; digits < 9; digits += 1) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return String(short);
  }
  return String(value);
}

/** Values as JSON has them: texts, truths and numbers. */
export const plain = (datatype, data) =>
  Array.from(data, (value) => (datatype === "BYTES" ? textOf(value) : datatype === "BOOL" ? Boolean(value) : Number(written(datatype, value))));

/** What Triton's generate endpoints take: a value for each input, or a list of values. */
export const generated = (tensors) => Object.fromEntries(tensors.map(({ name, datatype, data }) => {
  const values = plain(datatype, data);
  return [name, values.length === 1 ? values[0] : values];
}));

/** A text of BYTES; null where they are none. */
export function textOf(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}
