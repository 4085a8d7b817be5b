/** The page: the list of models, the panel of the one that is chosen, and what is said about the server. */

import { chatPanel } from "./chat.js";
import { breakable, h } from "./elements.js";
import { formPanel } from "./form.js";
import { kindOf } from "./kinds.js";
import { livePanel } from "./live.js";
import { lookPanel } from "./look.js";
import { blanks, listed } from "./models.js";
import * as server from "./server.js";
import { codePanel } from "./snippets.js";

const GROUPS = { drawing: "Draw", picture: "Pictures", language: "Language", form: "Tensors", step: "Steps of pipelines" };
const $ = (id) => document.getElementById(id);

/** @type {{models: import("./models.js").Model[], failed: {name: string, reason: string}[]}} */
let known = { models: [], failed: [] };
let open = { close: () => {} };

/** The group in which a model is listed. */
function groupOf(model) {
  const kind = kindOf(model, known.models);
  const isStep = known.models.some(({ steps }) => steps.some((step) => step.model === model.name));
  return kind === "form" && isStep ? "step" : kind;
}

async function load() {
  try {
    const [about, found] = await Promise.all([server.ask("/v2"), listed()]);
    known = found;
    $("server").textContent = `${about.name} ${about.version}`;
    $("state").textContent = "ready";
    document.body.dataset.state = "ready";
    list();
    return true;
  } catch (error) {
    if (error.status !== 401 && error.status) fail(error);
    return false;
  }
}

function fail(error) {
  $("main").replaceChildren(h("p", { class: "notice", role: "alert" }, error.message));
}

function list() {
  const groups = Object.entries(GROUPS).map(([group, title]) => {
    const members = known.models.filter((model) => groupOf(model) === group);
    const links = members.map(({ name }) => h("li", {}, h("a", { href: `#/models/${encodeURIComponent(name)}` }, name)));
    return members.length > 0 && h("section", {}, h("h2", {}, title), h("ul", {}, links));
  });
  const failed = known.failed.map(({ name, reason }) => h("li", {}, h("strong", {}, name), h("span", {}, reason)));
  $("models").replaceChildren(...[...groups, failed.length > 0 && h("section", { class: "failed" }, h("h2", {}, "Not served"), h("ul", {}, failed))].filter(Boolean));
  mark();
}

function mark() {
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === location.hash) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

/** Show what the address says: a model, or the live view; the first thing to try where it says nothing. */
function route(isFirst = false) {
  const [, place, encoded] = location.hash.split("/");
  if (!place) {
    const first = Object.keys(GROUPS).flatMap((group) => known.models.filter((model) => groupOf(model) === group))[0];
    if (!first) return fail(new Error("This server has no model."));
    history.replaceState(null, "", `#/models/${encodeURIComponent(first.name)}`);
    return route(isFirst);
  }
  open.close();
  $("menu").setAttribute("aria-expanded", "false");
  mark();
  const model = known.models.find(({ name }) => name === decodeURIComponent(encoded ?? ""));
  if (place === "live") show("Live", "What the models are doing now, by the server’s own counters.", livePanel(known.models));
  else if (model) showModel(model);
  else fail(new Error(`This server has no model ${decodeURIComponent(encoded ?? "")}.`));
  if (!isFirst) document.querySelector("main h1")?.focus();
}

function showModel(model) {
  const code = codePanel(model);
  const kind = kindOf(model, known.models);
  const panel = kind === "language" ? chatPanel(model, code.update)
    : kind === "form" ? formPanel(model, code.update) : lookPanel(model, known.models, code.update);
  code.update(kind === "language" ? {} : blanks(model));
  show(model.name, facts(model), panel, code.element, contract(model));
}

function show(title, words, panel, ...more) {
  open = panel;
  document.title = `${title} · Triton`;
  $("main").replaceChildren(h("header", { class: "title" }, h("h1", { tabindex: "-1" }, breakable(title)), h("p", {}, words)), panel.element, ...more);
}

/** What one wants to know of a model at a glance. */
function facts({ version, backend, maxBatch, batches, isDecoupled }) {
  const most = maxBatch > 1 ? `batches up to ${maxBatch}` : "batches of 1";
  // What streams may well compute several requests together: its backend knows.
  const batch = maxBatch ? `${most}${batches ? ", formed by the server" : ""}` : !isDecoupled && "no batches";
  return [`version ${version}`, backend, batch, isDecoupled && "streams"].filter(Boolean).map((text) => h("span", { class: "fact" }, text));
}

function contract(model) {
  const rows = (specs, side) => specs.map(({ name, datatype, dims, optional, hasLabels }) => h("tr", {},
    h("td", {}, side), h("th", { scope: "row" }, name), h("td", {}, datatype), h("td", {}, dims.map((dim) => (dim < 0 ? "any" : dim)).join(" × ")),
    h("td", {}, [optional && "optional", hasLabels && "labels"].filter(Boolean).join(", "))));
  return h("details", { class: "card" }, h("summary", {}, "Inputs and outputs"),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Inputs and outputs" }, h("table", {},
      h("thead", {}, h("tr", {}, ["", "Name", "Type", "Shape", ""].map((text) => h(text ? "th" : "td", text ? { scope: "col" } : {}, text)))),
      h("tbody", {}, rows(model.inputs, "in"), rows(model.outputs, "out")))));
}

/** Light or dark as the system has it, until somebody says otherwise in this tab. */
function theme() {
  const { dataset } = document.documentElement;
  const kept = sessionStorage.getItem("theme");
  if (kept) dataset.theme = kept;
  $("theme").onclick = () => {
    const isDark = (dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
    dataset.theme = isDark ? "light" : "dark";
    sessionStorage.setItem("theme", dataset.theme);
  };
}

function listen() {
  $("menu").onclick = () => $("menu").setAttribute("aria-expanded", String($("menu").getAttribute("aria-expanded") !== "true"));
  $("key-form").onsubmit = async (event) => {
    event.preventDefault();
    server.setKey($("key").value.trim());
    $("key").value = "";
    $("key-panel").hidden = await load();
    if ($("key-panel").hidden) route();
  };
  server.events.addEventListener("key", () => {
    $("key-panel").hidden = false;
    $("key").focus();
  });
  server.events.addEventListener("away", () => {
    $("banner").hidden = false;
    $("state").textContent = "away";
    document.body.dataset.state = "away";
  });
  server.events.addEventListener("back", async () => {
    $("banner").hidden = true;
    const before = known.models.length;
    if ((await load()) && !before) route();
  });
  addEventListener("hashchange", () => route());
}

theme();
listen();
server.watch();
if (await load()) route(true);
