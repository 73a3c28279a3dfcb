// Before something is destroyed: what would be lost, and its name to be typed.

import { append, h, newId } from "./dom.js";

// A dialog with a title; `draw` gets what closes it.
export function openDialog(title, draw) {
  const id = newId("dialog");
  const dialog = h("dialog", { "aria-labelledby": id, onclose: () => dialog.remove() }, h("h2", { id }, title));
  append(dialog, [draw(() => dialog.close())]);
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

export function confirmDestroy({ title, intro = "This would be lost, for ever:", losses, name, verb, options, onConfirm }) {
  const id = newId("dialog");
  const typed = h("input", { id: `${id}-name`, autocomplete: "off", spellcheck: "false", oninput: () => { go.disabled = typed.value !== name; } });
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const go = h("button", { type: "submit", class: "danger", disabled: true }, verb);
  const dialog = h("dialog", { "aria-labelledby": `${id}-title`, onclose: () => dialog.remove() },
    h("form", { novalidate: true, onsubmit: async (event) => {
      event.preventDefault();
      if (typed.value !== name || go.disabled) return;
      go.disabled = true;
      problem.hidden = true;
      try {
        await onConfirm();
        dialog.close();
      } catch (error) {
        problem.replaceChildren(document.createTextNode(`${error.message} ${error.hint ?? ""}`));
        problem.hidden = false;
        go.disabled = false;
      }
    } },
    h("h2", { id: `${id}-title` }, title),
    h("p", {}, intro),
    h("ul", {}, losses.map((one) => (one instanceof Node ? one : h("li", {}, one)))),
    options,
    h("div", { class: "field" }, h("label", { for: `${id}-name` }, "Type ", h("code", {}, name), " to go on"), typed),
    problem,
    h("p", { class: "buttons" }, go, " ", h("button", { type: "button", onclick: () => dialog.close() }, "Keep it"))));
  document.body.append(dialog);
  dialog.showModal();
  typed.focus();
  return dialog;
}
