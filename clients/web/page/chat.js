/** Talk to a language model: its words as they come, and how fast they come. */

import { choice, duration, field, h, readable } from "./elements.js";
import { stream, streamOf } from "./server.js";

/** @typedef {{role: "user"|"assistant"|"system", content: string}} Message */

/** What can be set, as vLLM names it. */
const SETTINGS = {
  max_tokens: { label: "Most tokens", value: "256", min: 1, step: 1 },
  temperature: { label: "Temperature", value: "0.7", min: 0, max: 2, step: 0.1 },
  top_p: { label: "Top p", value: "0.95", min: 0, max: 1, step: 0.05 },
  seed: { label: "Seed", value: "", min: 0, step: 1 },
};

/**
 * The panel of a language model.
 * @param {import("./models.js").Model} model
 * @param {(body: Object) => void} asked is told what was asked
 */
export function chatPanel(model, asked) {
  const canChat = Boolean(model.parameters.CHAT_TEMPLATE);
  const inputs = Object.fromEntries(Object.entries(SETTINGS).map(([name, { label, ...rest }]) => [name, h("input", { type: "number", ...rest })]));
  const system = h("textarea", { rows: 2, placeholder: "You are …" });
  const log = h("div", { class: "log", role: "log", "aria-label": "Conversation", tabindex: "0" });
  const text = h("textarea", { rows: 3, "aria-label": "Your text", onkeydown });
  const sending = h("button", { type: "submit", class: "primary" }, "Send");
  const stopping = h("button", { type: "button", hidden: true, onclick: () => running?.abort() }, "Stop");
  const systemField = field("System message", system);
  /** @type {Message[]} */
  let messages = [];
  let isChat = canChat;
  /** @type {AbortController | null} */
  let running = null;

  function settings() {
    const filled = Object.entries(inputs).filter(([, { value }]) => value !== "");
    return Object.fromEntries(filled.map(([name, { value }]) => [name, Number(value)]));
  }

  async function send() {
    const prompt = text.value;
    if (!prompt.trim() || running) return;
    text.value = "";
    // Clear begins another conversation while this one's answer may still come.
    const own = messages;
    if (isChat) own.push({ role: "user", content: prompt });
    log.append(h("div", { class: "message user" }, h("p", {}, prompt)));
    const said = h("p", { class: "said" });
    const figures = h("p", { class: "figures" });
    log.append(h("div", { class: "message assistant" }, said, figures));
    running = new AbortController();
    show();
    const answer = await told(said, figures, isChat ? chatted() : continued(prompt));
    // Templates want turns: a question without an answer is none.
    if (answer) own.push({ role: "assistant", content: answer });
    else own.pop();
    running = null;
    show();
  }

  function show() {
    [sending.hidden, stopping.hidden] = [Boolean(running), !running];
    text.focus();
  }

  /** Show an answer as it comes; returns all of it. */
  async function told(said, figures, pieces) {
    const began = performance.now();
    const words = document.createTextNode("");
    said.append(words);
    let [first, tokens, ending, pending, isDue] = [0, 0, "", "", false];
    const measure = () => {
      const spent = (performance.now() - first) / 1000;
      const rate = tokens > 1 && spent > 0 ? `${readable((tokens - 1) / spent)} tokens/s` : "";
      figures.replaceChildren(...[first && `first token ${duration((first - began) * 1000)}`, tokens && `${tokens} tokens`, rate, ending]
        .filter(Boolean).map((part) => h("span", {}, part)));
    };
    // Once for each frame: tokens may come faster than a browser draws.
    const draw = () => {
      const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
      words.data += pending;
      [pending, isDue] = ["", false];
      measure();
      if (isAtEnd) log.scrollTop = log.scrollHeight;
    };
    try {
      for await (const { text: piece, tokens: count, reason } of pieces) {
        if (piece) first ||= performance.now();
        pending += piece;
        tokens += count;
        if (reason) ending = reason === "length" ? "reached the most tokens" : "finished";
        if (!isDue) requestAnimationFrame(draw);
        isDue = true;
      }
    } catch (error) {
      ending = error.name === "AbortError" ? "stopped" : "failed";
      if (ending === "failed") said.after(h("p", { class: "notice", role: "alert" }, error.message));
    }
    draw();
    return words.data;
  }

  /** Go on with a text, by Triton's own stream. */
  async function* continued(prompt) {
    const known = new Set(model.inputs.map(({ name }) => name));
    const sampling = known.has("sampling_parameters") ? { sampling_parameters: JSON.stringify(settings()) } : settings();
    const flags = ["stream", "exclude_input_in_output", "return_finish_reason", "return_num_output_tokens"];
    const offered = { ...sampling, ...Object.fromEntries(flags.map((name) => [name, true])) };
    const body = { text_input: prompt, ...Object.fromEntries(Object.entries(offered).filter(([name]) => known.has(name))) };
    asked(body);
    for await (const event of stream(streamOf(model.name), body, running.signal)) {
      const reason = first(event.finish_reason);
      yield { text: first(event.text_output) ?? "", tokens: Number(first(event.num_output_tokens) ?? 1), reason: reason === "None" ? null : reason };
    }
  }

  /** Answer messages, by OpenAI's API beside Triton, which knows the chat template. */
  async function* chatted() {
    const opening = system.value.trim() ? [{ role: "system", content: system.value }] : [];
    const options = { include_usage: true, continuous_usage_stats: true };
    const body = { model: model.name, messages: [...opening, ...messages], stream: true, stream_options: options, ...settings() };
    asked(body);
    let counted = 0;
    for await (const { choices, usage } of stream("/v1/chat/completions", body, running.signal)) {
      const tokens = (usage?.completion_tokens ?? counted) - counted;
      counted += tokens;
      yield { text: choices[0]?.delta?.content ?? "", tokens, reason: choices[0]?.finish_reason };
    }
  }

  function onkeydown(event) {
    if (event.key === "Escape") running?.abort();
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  }

  function switchTo(kind) {
    isChat = kind === "chat";
    systemField.hidden = !isChat;
    text.placeholder = isChat ? "Ask something" : "A text to go on with";
    anew();
  }

  function anew() {
    running?.abort();
    messages = [];
    log.replaceChildren();
  }

  const modes = canChat && choice("Mode", { chat: "Chat", text: "Complete" }, "chat", switchTo);
  switchTo(canChat ? "chat" : "text");
  const more = h("details", { class: "settings" }, h("summary", {}, "Settings"), h("div", { class: "grid" },
    Object.entries(inputs).map(([name, input]) => field(SETTINGS[name].label, input))), systemField);
  const form = h("form", { onsubmit: (event) => (event.preventDefault(), send()) }, text,
    h("div", { class: "row end" }, h("span", { class: "hint grow" }, h("kbd", {}, "Enter"), " sends, ", h("kbd", {}, "Shift Enter"), " breaks the line, ", h("kbd", {}, "Esc"), " stops"),
      h("button", { type: "button", class: "quiet", onclick: anew }, "Clear"), stopping, sending));
  return { element: h("div", { class: "card" }, modes, more, log, form), close: anew };
}

/** A tensor's first element; a single one comes without a list. */
const first = (value) => (Array.isArray(value) ? value[0] : value);
