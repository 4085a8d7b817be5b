/** From what is on a canvas to the tensor that a model takes. */

import { cast } from "./protocol.js";

const LARGEST = 1024;

/**
 * The input of a model for a picture.
 * @param {HTMLCanvasElement} canvas
 * @param {Blob | null} file what the picture was read from, for models that decode files
 * @param {boolean} isDrawn with the pen, dark on light
 * @param {import("./models.js").Model} model
 * @param {import("./kinds.js").Pixels} pixels
 * @returns {Promise<import("./protocol.js").Tensor>}
 */
export async function tensorOf(canvas, file, isDrawn, model, pixels) {
  const rows = model.maxBatch ? [1] : [];
  if (pixels.form === "file") {
    const blob = file ?? (await new Promise((done) => canvas.toBlob(done, "image/png")));
    return { name: pixels.input, datatype: "BYTES", shape: [...rows, 1], data: [new Uint8Array(await blob.arrayBuffer())] };
  }
  const lead = pixels.dims.length === 4 ? [...rows, 1] : rows;
  const { width, height } = pixels.width ? pixels : sidesOf(canvas);
  const { channels } = pixels;
  if (pixels.form === "bytes") {
    const data = Uint8Array.from(levels(scaled(canvas, width, height), channels));
    return { name: pixels.input, datatype: "UINT8", shape: [...lead, height, width, channels], data };
  }
  const small = channels === 1 && isDrawn ? framed(canvas, width, height) : scaled(canvas, width, height);
  const values = normalised(levels(small, channels), model, channels);
  const data = cast(datatypeOf(model, pixels.input), pixels.isPlanar ? planes(values, channels) : values);
  const inner = pixels.dims.length === 4 ? pixels.dims.slice(1) : pixels.dims;
  return { name: pixels.input, datatype: datatypeOf(model, pixels.input), shape: [...lead, ...inner], data };
}

const datatypeOf = ({ inputs }, name) => inputs.find((spec) => spec.name === name).datatype;

/** Sides that a server takes for a picture of any size. */
function sidesOf({ width, height }) {
  const factor = Math.min(1, LARGEST / Math.max(width, height));
  return { width: Math.max(8, Math.round(width * factor)), height: Math.max(8, Math.round(height * factor)) };
}

function blank(width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  return context;
}

/** The picture at another size, as RGBA bytes; transparent parts are white. */
function scaled(canvas, width, height) {
  const context = blank(width, height);
  context.drawImage(canvas, 0, 0, width, height);
  return context.getImageData(0, 0, width, height).data;
}

/** A drawing as MNIST has it: light on dark, its longer side 20 of 28 pixels, its mass in the middle. */
function framed(canvas, width, height) {
  const { width: across, height: down } = canvas;
  const inks = levels(scaled(canvas, across, down), 1).map((level) => 255 - level);
  const inked = (place) => inks[place] > 64;
  let [left, top, right, bottom, mass, x, y] = [across, down, -1, -1, 0, 0, 0];
  for (let place = 0; place < inks.length; place += 1) {
    if (!inked(place)) continue;
    const column = place % across;
    const row = (place - column) / across;
    left = Math.min(left, column);
    right = Math.max(right, column);
    top = Math.min(top, row);
    bottom = Math.max(bottom, row);
    mass += inks[place];
    x += inks[place] * column;
    y += inks[place] * row;
  }
  const context = blank(width, height);
  if (mass) {
    const [inkedWidth, inkedHeight] = [right - left + 1, bottom - top + 1];
    const factor = (20 / 28) * Math.min(width / inkedWidth, height / inkedHeight);
    context.setTransform(factor, 0, 0, factor, width / 2 - (x / mass) * factor, height / 2 - (y / mass) * factor);
    context.drawImage(canvas, left, top, inkedWidth, inkedHeight, left, top, inkedWidth, inkedHeight);
  }
  return context.getImageData(0, 0, width, height).data.map((level) => 255 - level);
}

/** Gray or RGB levels of RGBA bytes, pixel by pixel. */
function levels(rgba, channels) {
  const values = new Float32Array((rgba.length / 4) * channels);
  for (let pixel = 0, from = 0; from < rgba.length; pixel += 1, from += 4) {
    if (channels === 1) values[pixel] = 0.299 * rgba[from] + 0.587 * rgba[from + 1] + 0.114 * rgba[from + 2];
    else for (let channel = 0; channel < 3; channel += 1) values[pixel * 3 + channel] = rgba[from + channel];
  }
  return values;
}

/** The means and the stds of all channels, as the model's config has them. */
function scales({ parameters }, channels) {
  const listed = (text) => Array.from({ length: channels }, (_, channel) => Number(text.split(",")[channel] ?? text.split(",")[0]));
  return [listed(parameters.IMAGE_MEAN ?? "0"), listed(parameters.IMAGE_STD ?? "1")];
}

/** (level / 255 - mean) / std. */
function normalised(values, model, channels) {
  const [means, stds] = scales(model, channels);
  return values.map((level, place) => (level / 255 - means[place % channels]) / stds[place % channels]);
}

/** Pixel by pixel to channel by channel. */
function planes(values, channels) {
  const count = values.length / channels;
  return values.map((_, place) => values[(place % count) * channels + Math.floor(place / count)]);
}

/**
 * The picture that a golden request holds, on a canvas; null where it holds none.
 * @param {import("./protocol.js").Tensor} tensor
 * @param {import("./kinds.js").Pixels} pixels
 * @param {import("./models.js").Model} model
 * @returns {Promise<{canvas: HTMLCanvasElement, file: Blob | null} | null>}
 */
export async function pictureOf(tensor, pixels, model) {
  if (pixels.form === "file") {
    const file = new Blob([tensor.data[0]]);
    return { canvas: onCanvas(await createImageBitmap(file)), file };
  }
  const isBytes = pixels.form === "bytes";
  const [height, width, channels] = isBytes ? tensor.shape.slice(-3) : [pixels.height, pixels.width, pixels.channels];
  const [means, stds] = scales(model, channels);
  const placeOf = (pixel, channel) => (pixels.isPlanar ? channel * width * height + pixel : pixel * channels + channel);
  const level = (pixel, channel) => {
    const value = tensor.data[placeOf(pixel, channel)];
    return isBytes ? value : 255 * (value * stds[channel] + means[channel]);
  };
  return { canvas: await painted(width, height, channels, level), file: null };
}

/** A picture on a canvas of its size. */
export function onCanvas(bitmap) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  return canvas;
}

/** The picture in an output [H, W, C] of UINT8. */
export function outputPicture({ data, shape }) {
  const [height, width, channels] = shape.slice(-3);
  return painted(width, height, channels, (pixel, channel) => data[pixel * channels + channel]);
}

/** A canvas with the levels, 0 to 255, of all pixels in one channel or three. */
async function painted(width, height, channels, level) {
  const image = new ImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel += 1) {
    const colors = [0, 1, 2].map((channel) => level(pixel, channel % channels));
    image.data.set([...colors, 255], pixel * 4);
  }
  return onCanvas(await createImageBitmap(image));
}
