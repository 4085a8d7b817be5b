/** Draw or show a picture; every model that it concerns answers at once, side by side. */

import { bars, classes, everything, percent, wanted } from "./answers.js";
import { breakable, choice, duration, h, readable } from "./elements.js";
import { figures, since, stages } from "./figures.js";
import { family, kindOf, pixelsOf } from "./kinds.js";
import { workers } from "./models.js";
import { keys, sheet } from "./pen.js";
import { dropPlace } from "./picture.js";
import { pictureOf, tensorOf } from "./pixels.js";
import { example, infer } from "./server.js";

// Between two questions while the pen moves.
const PAUSE_MS = 60;

/**
 * The panel of a model that sees.
 * @param {import("./models.js").Model} model
 * @param {import("./models.js").Model[]} all
 * @param {(inputs: import("./protocol.js").Tensor[]) => void} asked is told what was sent to the model
 */
export function lookPanel(model, all, asked) {
  const members = family(model, all);
  const cards = members.map((each) => card(each, all));
  const notice = h("p", { class: "notice", role: "alert", hidden: true });
  const spoken = h("p", { class: "visually-hidden", role: "status" });
  let source = null;
  let isAsking = false;
  let isStale = false;
  let speech;

  /** Ask about what is there now, one question at a time: what comes meanwhile is asked about afterwards, once. */
  async function ask() {
    isStale = true;
    if (isAsking) return;
    isAsking = true;
    while (isStale && source) {
      isStale = false;
      const before = await figures().catch(() => null);
      if (!source) break;
      const answers = await Promise.all(cards.map((each) => each.ask(source)));
      const inputs = answers[members.indexOf(model)];
      if (inputs) asked(inputs);
      const after = await figures().catch(() => null);
      cards.forEach((each) => each.tell(before, after));
      speak(cards.map((each) => each.words()).filter(Boolean).join("; "));
      await new Promise((wake) => setTimeout(wake, PAUSE_MS));
    }
    isAsking = false;
  }

  function speak(words) {
    clearTimeout(speech);
    speech = setTimeout(() => (spoken.textContent = words), 800);
  }

  function refuse(message) {
    notice.textContent = message;
    notice.hidden = false;
  }

  const paper = sheet((isEmpty) => {
    if (isEmpty) return wiped();
    source = { canvas: paper.canvas, file: null, isDrawn: true };
    ask();
  });
  const place = dropPlace((canvas, file) => {
    notice.hidden = true;
    source = { canvas, file, isDrawn: false };
    ask();
  }, refuse);

  function wiped() {
    source = null;
    cards.forEach((each) => each.clear());
    speak("");
  }

  async function fill() {
    const tensors = await example(model.name, model.version);
    const picture = tensors && (await pictureOf(tensors[0], pixelsOf(model, all), model));
    if (!picture) return refuse("This model has no example.");
    switchTo("picture");
    place.show(picture.canvas, picture.file);
  }

  const drawing = h("div", {}, paper.element, h("div", { class: "row" },
    h("button", { type: "button", onclick: paper.wipe }, "Wipe"), h("button", { type: "button", onclick: fill }, "Example")), keys());
  const showing = h("div", {}, place.element, h("div", { class: "row" }, h("button", { type: "button", onclick: fill }, "Example")));
  const sources = h("div");
  const switcher = h("div");

  function switchTo(kind) {
    sources.replaceChildren(kind === "drawing" ? drawing : showing);
    switcher.replaceChildren(choice("Input", { drawing: "Draw", picture: "Picture" }, kind, switchTo));
  }

  switchTo(kindOf(model, all));
  const element = h("div", { class: "look" },
    h("div", { class: "source card" }, switcher, sources, notice),
    h("div", { class: "cards" }, cards.map(({ element: shown }) => shown)), spoken);
  return { element, close: place.close };
}

/** A model's answer, and how it came. */
function card(model, all) {
  const pixels = pixelsOf(model, all);
  const shown = bars();
  const body = h("div");
  const time = h("span", { class: "time" });
  const timing = h("div");
  const hint = h("p", { class: "empty" }, "The answer appears here.");
  const element = h("section", { class: "card", "aria-label": model.name },
    h("header", {}, h("h2", {}, h("a", { href: `#/models/${encodeURIComponent(model.name)}` }, breakable(model.name))), time), hint, body, timing);
  let best = "";
  let isFailed = false;
  // What comes after the sheet was wiped is an answer to nothing.
  let isCleared = false;

  /** Ask the model, and show its answer; returns what was sent, or null if there is no answer. */
  async function ask({ canvas, file, isDrawn }) {
    [isCleared, isFailed] = [false, false];
    try {
      const inputs = [await tensorOf(canvas, file, isDrawn, model, pixels)];
      const began = performance.now();
      const tensors = await infer(model.name, inputs, wanted(model));
      await show(tensors, performance.now() - began);
      return inputs;
    } catch (error) {
      fail(error.message);
      return null;
    }
  }

  function fail(message) {
    if (isCleared) return;
    isFailed = true;
    hint.hidden = true;
    best = message;
    body.replaceChildren(h("p", { class: "notice", role: "alert" }, message));
  }

  async function show(tensors, spent) {
    const found = classes(model, tensors);
    const rest = found ? null : await everything(tensors);
    if (isCleared) return;
    time.textContent = duration(spent * 1000);
    hint.hidden = true;
    if (rest) return body.replaceChildren(rest);
    if (body.firstChild !== shown.element) body.replaceChildren(shown.element);
    shown.update(found);
    const top = found.reduce((one, other) => (other.share > one.share ? other : one));
    best = `${model.name}: ${top.label}, ${percent(top.share)}`;
  }

  /** Tell in which stages the time went, between two looks at the server's figures. */
  function tell(before, after) {
    if (isCleared || isFailed || !after) return timing.replaceChildren();
    const parts = workers(model, all).map(({ name }) => ({ name, change: since(after.get(name), before?.get(name)) }));
    const { rows, executions } = parts.at(-1).change;
    const batch = executions > 0 ? h("p", { class: "batch" }, "mean batch ", h("strong", {}, readable(rows / executions))) : null;
    timing.replaceChildren(...[stages(parts), batch].filter(Boolean));
  }

  function clear() {
    isCleared = true;
    best = "";
    time.textContent = "";
    hint.hidden = false;
    body.replaceChildren();
    timing.replaceChildren();
  }
  return { element, ask, tell, clear, words: () => best };
}
