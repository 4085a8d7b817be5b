/** Elements of the page, made in one expression. */

/**
 * Make an element.
 * @param {string} tag
 * @param {Record<string, any>} [properties] attributes; `on…` are listeners, false and null leave one out
 * @param {...any} children elements and texts; nested lists and empty values are fine
 * @returns {HTMLElement}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false && child !== ""));
  return element;
}

let fields = 0;

/**
 * A labelled input, select or textarea.
 * @param {string} label
 * @param {HTMLElement} control
 */
export function field(label, control) {
  control.id ||= `field-${(fields += 1)}`;
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control);
}

/**
 * Buttons of which one is chosen.
 * @param {string} label what is chosen
 * @param {Record<string, string>} choices texts by value
 * @param {string} chosen
 * @param {(value: string) => void} choose
 */
export function choice(label, choices, chosen, choose) {
  const buttons = Object.entries(choices).map(([value, text]) =>
    h("button", { type: "button", class: "segment", "aria-pressed": String(value === chosen), onclick: () => press(value) }, text));
  function press(value) {
    Object.keys(choices).forEach((each, place) => buttons[place].setAttribute("aria-pressed", String(each === value)));
    choose(value);
  }
  return h("div", { class: "segments", role: "group", "aria-label": label }, buttons);
}

/** An SVG element. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A name that may break at its underscores. */
export const breakable = (name) => name.split("_").flatMap((part, place) => (place ? ["_", h("wbr"), part] : [part]));

/** A number for people: three digits, or all of a whole number. */
export function readable(value) {
  if (typeof value === "bigint" || Number.isInteger(value)) return value.toLocaleString("en");
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(2);
  return size >= 100 ? Math.round(value).toLocaleString("en") : value.toPrecision(3);
}

/** Microseconds for people. */
export function duration(microseconds) {
  if (!Number.isFinite(microseconds)) return "–";
  if (microseconds < 1000) return `${Math.round(microseconds)} µs`;
  return microseconds < 1e6 ? `${readable(microseconds / 1e3)} ms` : `${readable(microseconds / 1e6)} s`;
}
