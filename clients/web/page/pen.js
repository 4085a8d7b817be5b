/** A sheet to draw on: with a mouse, a finger, a pen, or the arrow keys. */

import { h } from "./elements.js";

const SIDE = 280;
const WIDTH = 32;
const STEP = 10;

/**
 * A sheet.
 * @param {(isEmpty: boolean) => void} changed is called whenever something was drawn or wiped
 */
export function sheet(changed) {
  const canvas = h("canvas", {
    class: "sheet", width: SIDE, height: SIDE, tabindex: "0", role: "img",
    "aria-label": "Sheet to draw on", "aria-describedby": "sheet-keys",
  });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const cursor = h("span", { class: "cursor", hidden: true });
  const pen = { x: SIDE / 2, y: SIDE / 2, isDown: false };

  function clear() {
    context.fillStyle = "#fff";
    context.fillRect(0, 0, SIDE, SIDE);
    Object.assign(context, { strokeStyle: "#111", lineWidth: WIDTH, lineCap: "round", lineJoin: "round" });
  }

  function wipe() {
    clear();
    changed(true);
  }

  function draw(x, y) {
    context.beginPath();
    context.moveTo(pen.x, pen.y);
    context.lineTo(x, y);
    context.stroke();
    move(x, y);
    changed(false);
  }

  function move(x, y) {
    Object.assign(pen, { x, y });
    cursor.style.left = `${(100 * x) / SIDE}%`;
    cursor.style.top = `${(100 * y) / SIDE}%`;
  }

  const placeOf = (event) => {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    return [((event.clientX - left) * SIDE) / width, ((event.clientY - top) * SIDE) / height];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    cursor.hidden = true;
    move(...placeOf(event));
    draw(...placeOf(event));
    event.preventDefault();
    canvas.focus({ preventScroll: true });
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.buttons && canvas.hasPointerCapture(event.pointerId)) draw(...placeOf(event));
  });
  canvas.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (way) {
      const [x, y] = [pen.x + way[0] * STEP, pen.y + way[1] * STEP].map((place) => Math.min(SIDE - 5, Math.max(5, place)));
      if (pen.isDown) draw(x, y);
      else move(x, y);
    } else if (event.key === " ") {
      pen.isDown = !pen.isDown;
      cursor.classList.toggle("down", pen.isDown);
      if (pen.isDown) draw(pen.x, pen.y);
    } else if (event.key === "Delete" || event.key === "Backspace") wipe();
    else return;
    cursor.hidden = false;
    event.preventDefault();
  });
  canvas.addEventListener("blur", () => (cursor.hidden = true));

  clear();
  move(pen.x, pen.y);
  const element = h("div", { class: "paper" }, canvas, cursor);
  return { element, canvas, wipe };
}

/** How the keys draw, for whoever has no pointer. */
export const keys = () =>
  h("p", { class: "hint", id: "sheet-keys" }, "With keys: ", h("kbd", {}, "Space"), " puts the pen down or up, arrows move it, ",
    h("kbd", {}, "Delete"), " wipes.");
