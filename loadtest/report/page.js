"use strict";
// Charts: Vega draws them as SVG, whose colors are variables of the style sheet.
const tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
tip.setAttribute("role", "status");
document.body.append(tip);

function show(handler, event, item, value) {
  const shown = Object.entries(value ?? {}).filter(([name]) => !name.startsWith("_"));
  tip.hidden = !shown.length;
  if (tip.hidden) return;
  const list = document.createElement("dl");
  for (const [name, text] of shown) {
    const pair = [["dt", name], ["dd", text]];
    list.append(...pair.map(([tag, textContent]) => Object.assign(document.createElement(tag), { textContent })));
  }
  tip.replaceChildren(list);
  const { offsetWidth: width, offsetHeight: height } = tip;
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 4))}px`;
  tip.style.top = `${event.clientY + 18 + height > innerHeight ? event.clientY - height - 10 : event.clientY + 18}px`;
}

for (const figure of document.querySelectorAll("figure")) {
  const spec = JSON.parse(figure.querySelector("script").textContent);
  const view = new vega.View(vega.parse(spec), { renderer: "svg", container: figure.querySelector(".plot"), hover: true });
  view.tooltip(show).runAsync();
  const buttons = [...figure.querySelectorAll(".legend button")];
  for (const button of buttons) {
    button.addEventListener("click", () => {
      button.ariaPressed = button.ariaPressed === "true" ? "false" : "true";
      const hidden = buttons.filter((each) => each.ariaPressed === "false");
      view.signal("hidden", hidden.map((each) => each.dataset.series)).runAsync();
    });
  }
}

// Tables: a click on a heading sorts by it, numbers by their value, and the other way round the second time.
function compare(one, other) {
  const numbers = [one, other].map((text) => parseFloat(text.replaceAll(",", "")));
  if (numbers.every(Number.isNaN)) return one.localeCompare(other);
  return Number.isNaN(numbers[0]) ? -1 : Number.isNaN(numbers[1]) ? 1 : numbers[0] - numbers[1];
}

for (const table of document.querySelectorAll("table")) {
  const [body] = table.tBodies;
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const direction = heading.ariaSort === "ascending" ? "descending" : "ascending";
      for (const each of headings) each.removeAttribute("aria-sort");
      heading.ariaSort = direction;
      const rows = [...body.rows].sort((a, b) => compare(a.cells[column].textContent, b.cells[column].textContent));
      body.append(...(direction === "ascending" ? rows : rows.reverse()));
    });
  });
}
