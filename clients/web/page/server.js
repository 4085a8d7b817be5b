/** The server behind this origin: every request of the page goes through here. */

import { decode, encode } from "./protocol.js";

const KEY = "api-key";
const PAUSE_MS = 1500;
const LOOK_MS = 5000;

/** What the server says against a request, or that it says nothing (status 0). */
class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Tells `away`, `back` and `key`, which is that a key is wanted. */
export const events = new EventTarget();
let isAway = false;

export const hasKey = () => Boolean(sessionStorage.getItem(KEY));

/** Keep a key for this tab, and for as long as it is open. */
export function setKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

/**
 * Send a request.
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<Response>} with a status below 400
 * @throws {ServerError}
 */
export async function send(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    leave();
    throw new ServerError("The server does not answer.", 0);
  }
  if (response.ok) return response;
  const words = await wordsOf(response);
  if (response.status === 401) events.dispatchEvent(new Event("key"));
  if (response.status === 502) leave();
  throw new ServerError(words, response.status);
}

/** The error of a response, as the server says it. */
async function wordsOf(response) {
  const text = (await response.text().catch(() => "")).replace(/^data:\s*/, "");
  try {
    const { error } = JSON.parse(text);
    return error.message ?? error;
  } catch {
    return text.slice(0, 500) || `HTTP ${response.status} ${response.statusText}`;
  }
}

/** Ask for JSON. */
export const ask = async (path, options) => (await send(path, options)).json();

/** Ask for JSON with a body of JSON. */
export const post = (path, body, options = {}) =>
  send(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), ...options });

const place = (model) => `/v2/models/${encodeURIComponent(model)}`;

/** Where a model is asked. */
export const inferOf = (model) => `${place(model)}/infer`;

/** Where a model streams. */
export const streamOf = (model) => `${place(model)}/generate_stream`;

/** The config of a model. */
export const configOf = (model) => ask(`${place(model)}/config`);

/**
 * Ask a model for an inference.
 * @param {string} model
 * @param {import("./protocol.js").Tensor[]} inputs
 * @param {Object[]} [outputs] as V2 has them; empty for all
 * @param {AbortSignal} [signal]
 * @returns {Promise<import("./protocol.js").Tensor[]>}
 */
export async function infer(model, inputs, outputs = [], signal) {
  const { body, length } = encode(inputs, outputs);
  const headers = { "Content-Type": "application/octet-stream", "Inference-Header-Content-Length": length };
  return tensorsOf(await send(inferOf(model), { method: "POST", headers, body, signal }));
}

/** The tensors in a response, or none where it is empty. */
async function tensorsOf(response) {
  const buffer = await response.arrayBuffer();
  if (!buffer.byteLength) return null;
  return decode(buffer, Number(response.headers.get("Inference-Header-Content-Length") ?? buffer.byteLength));
}

/** A golden request of a version; null where it has none. */
export const example = (model, version) =>
  send(`/web/examples/${encodeURIComponent(model)}/${version}`).then(tensorsOf).catch(() => null);

/**
 * Post JSON and read the events of the answer as they come; leaving the loop, or the signal, ends it on the server.
 * @param {string} path
 * @param {Object} body
 * @param {AbortSignal} signal
 */
export async function* stream(path, body, signal) {
  const response = await post(path, body, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read().catch((error) => {
        if (error.name === "AbortError") throw error;
        leave();
        throw new ServerError("The server ended in the middle of its answer.", 0);
      });
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines.filter((each) => each.startsWith("data:"))) {
        const data = line.slice(5).trim();
        if (data === "[DONE]") return;
        const event = JSON.parse(data);
        if (event.error) throw new ServerError(event.error.message ?? event.error, 500);
        yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Say once that the server is away, and look for it until it is back. */
function leave() {
  if (isAway) return;
  isAway = true;
  events.dispatchEvent(new Event("away"));
  look();
}

async function look() {
  while (isAway) {
    await new Promise((wake) => setTimeout(wake, PAUSE_MS));
    const response = await fetch("/v2/health/ready").catch(() => null);
    if (response?.ok) {
      isAway = false;
      events.dispatchEvent(new Event("back"));
    }
  }
}

/** Notice from now on when the server goes, also while nobody asks it anything. */
export function watch() {
  setInterval(async () => {
    if (document.hidden || isAway) return;
    const response = await fetch("/v2/health/live").catch(() => null);
    if (!response?.ok) leave();
  }, LOOK_MS);
}
