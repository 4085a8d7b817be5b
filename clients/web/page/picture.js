/** A place for a picture: chosen, dropped or pasted. */

import { h } from "./elements.js";
import { onCanvas } from "./pixels.js";

/**
 * A place to drop pictures on.
 * @param {(canvas: HTMLCanvasElement, file: Blob) => void} taken
 * @param {(message: string) => void} refused
 */
export function dropPlace(taken, refused) {
  const chooser = h("input", { type: "file", accept: "image/*", class: "visually-hidden", id: "picture", onchange: () => take(chooser.files[0]) });
  const preview = h("div", { class: "preview" });
  const words = h("span", { class: "invitation" }, h("strong", {}, "Choose a picture"), h("span", {}, "or drop or paste one"));
  const element = h("label", { class: "drop", for: "picture" }, preview, words, chooser);

  async function take(file) {
    if (!file) return;
    try {
      show(onCanvas(await createImageBitmap(file)), file);
    } catch {
      refused(`${file.name || "This"} is no picture that this browser can read.`);
    }
  }

  function show(canvas, file) {
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "The picture");
    preview.replaceChildren(canvas);
    element.classList.add("filled");
    taken(canvas, file);
  }

  for (const name of ["dragenter", "dragover"]) {
    element.addEventListener(name, (event) => {
      event.preventDefault();
      element.classList.add("over");
    });
  }
  element.addEventListener("dragleave", () => element.classList.remove("over"));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    element.classList.remove("over");
    take(event.dataTransfer.files[0]);
  });
  const paste = (event) => {
    const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
    if (file) take(file);
  };
  document.addEventListener("paste", paste);
  return { element, show, close: () => document.removeEventListener("paste", paste) };
}
