/** The same call as code to copy: curl, Triton's own client, and this repository's. */

import { choice, h } from "./elements.js";
import { isLanguage } from "./kinds.js";
import { encode, generated, plain, size, textOf, written } from "./protocol.js";
import { hasKey, inferOf, streamOf } from "./server.js";

const NUMPY = { BOOL: "bool_", FP16: "float16", FP32: "float32", FP64: "float64", BYTES: "object_" };
// Tensors of more values are written as zeros, or sent as a file.
const LONGEST = 16;
const PREFIX = document.querySelector("meta[name=package]").content;

/**
 * The code panel of a model; `update` shows other inputs, or what a language model was asked.
 * @param {import("./models.js").Model} model
 */
export function codePanel(model) {
  const code = h("pre", { class: "code", tabindex: "0", "aria-label": "Code" });
  const note = h("p", { class: "hint" });
  const copying = h("button", { type: "button", class: "quiet", onclick: copy }, "Copy");
  const forms = isLanguage(model) ? ofLanguage : model.isDecoupled ? ofStream : ofTensors;
  let kind = "curl";
  let asked = [];

  async function copy() {
    // Without TLS, a browser has this for its own host only.
    if (navigator.clipboard) await navigator.clipboard.writeText(code.textContent);
    else getSelection().selectAllChildren(code), document.execCommand("copy");
    copying.textContent = "Copied";
    setTimeout(() => (copying.textContent = "Copy"), 1500);
  }

  function show() {
    const [text, remark] = forms[kind](model, asked);
    code.textContent = text;
    note.replaceChildren(...(remark ? [remark] : []));
  }

  function update(now) {
    asked = now;
    show();
  }

  const kinds = { curl: "curl", clients: "Python", tritonclient: isLanguage(model) ? "OpenAI’s client" : "tritonclient" };
  const element = h("section", { class: "card" }, h("header", {}, h("h2", {}, "The same call in code"), copying),
    choice("Language", Object.fromEntries(Object.keys(forms).map((name) => [name, kinds[name]])), kind, (chosen) => ((kind = chosen), show())), code, note);
  return { element, update };
}

// The request that can be saved now.
let saved = "";

const key = (form) => (hasKey() ? form : "");
const address = () => location.host || "127.0.0.1:8000";
const isSecure = () => location.protocol === "https:";
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** A call with curl: its options, and where it goes. */
const curl = (options, path) => `curl${key(` -H "Authorization: Bearer $KEY"`)} ${options} \\\n  ${location.origin}${path}`;
const streamed = (body, path) => curl(`-N -d ${quoted(JSON.stringify(body))}`, path);

/** What code with this repository's client begins with, and the line in which it connects. */
const imported = () => [`from ${PREFIX}clients.client import Client`, `from ${PREFIX}clients.connection import Connection${isSecure() ? ", Tls" : ""}`, ""];
function connected() {
  const options = [`"http"`, `"${address()}"`, key(`headers={"authorization": f"Bearer {key}"}`), isSecure() && "tls=Tls()"];
  return `with Client(Connection(${options.filter(Boolean).join(", ")})) as client:`;
}

/** A tensor as numpy's expression. */
function numpy({ datatype, shape, data }) {
  const kind = `np.${NUMPY[datatype] ?? datatype.toLowerCase()}`;
  const count = size(shape);
  if (datatype === "BYTES") {
    const texts = data.map(textOf);
    const shown = texts.includes(null) || texts.some((text) => text.length > 200) ? `open("input.bin", "rb").read()` : texts.map((text) => JSON.stringify(text)).join(", ");
    return `np.array([${shown}], ${kind}).reshape(${JSON.stringify(shape)})`;
  }
  if (count > LONGEST) return `np.zeros(${JSON.stringify(shape)}, ${kind})`;
  const values = Array.from(data, (value) => (datatype === "BOOL" ? (value ? "True" : "False") : written(datatype, value)));
  return `np.array([${values.join(", ")}], ${kind}).reshape(${JSON.stringify(shape)})`;
}

const ofTensors = {
  curl(model, tensors) {
    const isShort = tensors.every(({ datatype, shape, data }) => size(shape) <= LONGEST && (datatype !== "BYTES" || data.every((bytes) => bytes.length < 200 && textOf(bytes) !== null)));
    if (isShort) {
      const inputs = tensors.map(({ name, datatype, shape, data }) => ({ name, shape, datatype, data: plain(datatype, data) }));
      return [curl(`-d ${quoted(JSON.stringify({ inputs }))}`, inferOf(model.name))];
    }
    const { body, length } = encode(tensors, []);
    URL.revokeObjectURL(saved);
    saved = URL.createObjectURL(body);
    const save = h("a", { href: saved, download: "request.bin" }, "request.bin");
    const options = `-H 'Inference-Header-Content-Length: ${length}' --data-binary @request.bin -o answer.bin`;
    return [curl(options, inferOf(model.name)), h("span", {}, "The body is JSON with the tensors behind it: save ", save, ".")];
  },
  clients(model, tensors) {
    const inputs = tensors.map((tensor) => `    "${tensor.name}": ${numpy(tensor)},`);
    return [[
      "import numpy as np", ...imported(), "inputs = {", ...inputs, "}", connected(),
      `    for name, array in client.infer("${model.name}", inputs).items():`, "        print(name, array)",
    ].join("\n")];
  },
  tritonclient(model, tensors) {
    const tls = isSecure() ? ", ssl=True" : "";
    const header = key(`, headers={"authorization": f"Bearer {key}"}`);
    const inputs = tensors.flatMap((tensor, place) => [
      `tensor${place} = httpclient.InferInput("${tensor.name}", ${JSON.stringify(tensor.shape)}, "${tensor.datatype}")`,
      `tensor${place}.set_data_from_numpy(${numpy(tensor)})`,
    ]);
    return [[
      "import numpy as np", "import tritonclient.http as httpclient", "", `client = httpclient.InferenceServerClient("${address()}"${tls})`, ...inputs,
      `result = client.infer("${model.name}", [${tensors.map((_, place) => `tensor${place}`).join(", ")}]${header})`,
      ...model.outputs.map(({ name }) => `print(result.as_numpy("${name}"))`),
    ].join("\n")];
  },
};

// Of many answers to one request, HTTP has a stream alone.
const ofStream = {
  curl: (model, tensors) => [streamed(generated(tensors), streamOf(model.name))],
};

const prompt = ({ messages, text_input: text } = {}) => messages?.at(-1).content ?? text ?? "Why is the sea salty?";

const ofLanguage = {
  curl(model, asked) {
    const body = Object.keys(asked).length ? asked : { text_input: prompt(), sampling_parameters: JSON.stringify({ max_tokens: 64 }), stream: true };
    return [streamed(body, asked.messages ? "/v1/chat/completions" : streamOf(model.name))];
  },
  clients(model, asked) {
    const question = JSON.stringify(asked.messages ?? prompt(asked));
    return [[
      ...imported(), connected(), `    for chunk in client.generate("${model.name}", ${question}, max_tokens=64):`,
      `        print(chunk.text, end="", flush=True)`,
    ].join("\n")];
  },
  tritonclient(model, asked) {
    const messages = asked.messages ?? [{ role: "user", content: prompt(asked) }];
    return [[
      "import openai", "", `client = openai.OpenAI(base_url="${location.origin}/v1", api_key=${hasKey() ? "key" : `"none"`})`,
      `parts = client.chat.completions.create(model="${model.name}", messages=${JSON.stringify(messages)}, stream=True)`,
      "for part in parts:", `    print(part.choices[0].delta.content or "", end="", flush=True)`,
    ].join("\n")];
  },
};
