// A text file in the page: saved whole, and only over the version that was read; else what was typed stays here.

import { append, h, methodOf } from "./parts.js";
import { ask, change } from "./rpc.js";
import { DECEIVING, bytes, line } from "./text.js";

// One call carries it, with what JSON adds to it.
const TEXT_MAX = 120 << 10;

// Texts that are open in the page, each as a function that tells whether it would be lost.
const open = new Set();
export const hasUnsaved = () => [...open].some((isLost) => isLost());
window.addEventListener("beforeunload", (event) => { if (hasUnsaved()) event.preventDefault(); });

// Line ends as they are in the file: a text field has only one kind. null: they are mixed.
function lineEnds(text) {
  const pairs = text.split("\r\n").length - 1;
  const feeds = text.split("\n").length - 1;
  const returns = text.split("\r").length - 1;
  if (!returns) return "\n";
  return pairs === feeds && pairs === returns ? "\r\n" : null;
}

export async function editFile({ node, name, contract, row, isReadOnly, place, onSaved, onFail }) {
  const shown = line(row.path);
  let etag = "absent";
  let first = "";
  let ends = "\n";
  try {
    if (!row.isNew) {
      if (row.size_bytes > TEXT_MAX) throw new Error(`${shown} has ${bytes(row.size_bytes)}: up to ${bytes(TEXT_MAX)} can be edited here; download it`);
      const read = await ask(node, "file.read", { workspace: name, path: row.path });
      if (read.encoding !== "text") throw new Error(`${shown} is no text: download it`);
      if (!read.eof) throw new Error(`${shown} is too long by now: download it`);
      ({ etag, data: first } = read);
      ends = lineEnds(first);
    }
  } catch (error) { onFail(error); return; }
  const isFixed = isReadOnly || ends === null;
  const strange = (first.replaceAll("\r", "").match(DECEIVING) ?? []).length;
  const text = h("textarea", { class: "editor", rows: 18, spellcheck: "false", autocomplete: "off", wrap: "off", "aria-label": `Text of ${shown}`, readonly: isFixed });
  text.value = first;
  const begun = text.value; // with line ends as a text field has them
  const said = h("div", { role: "status" });
  const say = (content, kind) => { said.replaceChildren(); append(said, [content && h("p", { class: `notice ${kind}` }, content)]); };
  const isDirty = () => text.value !== begun;
  const isLost = () => element.isConnected && isDirty();
  open.add(isLost);
  const close = () => { open.delete(isLost); element.remove(); };

  async function save() {
    const data = ends === "\r\n" ? text.value.replaceAll("\n", "\r\n") : text.value;
    const params = { workspace: name, path: row.path, data, if_etag: etag };
    if (JSON.stringify(params).length > 2 * TEXT_MAX - 4096) { say(`It is too long to be saved from here: up to ${bytes(TEXT_MAX)}.`, "bad"); return; }
    saveIt.disabled = true;
    try {
      await change(node, methodOf(contract, "file.write"), params, { isPrivate: true });
      close();
      await onSaved();
    } catch (error) {
      if (error.data?.kind === "in_use") conflict(error);
      else say([error.data?.errors?.map((each) => `${each.field} ${each.problem}`).join("; ") || error.message, " ", error.hint], "bad");
    }
    saveIt.disabled = false;
  }

  function conflict(error) {
    say([`Not saved: ${error.message}. What you typed is still here. `,
      h("button", { type: "button", onclick: showTheirs }, "Show what is there now")], "warn");
  }

  async function showTheirs() {
    try {
      const now = await ask(node, "file.read", { workspace: name, path: row.path });
      const theirs = h("textarea", { class: "editor", rows: 8, readonly: true, wrap: "off", "aria-label": `What is in ${shown} now` });
      theirs.value = now.encoding === "text" ? now.data : "(no text)";
      said.replaceChildren();
      append(said, [h("p", { class: "notice warn" }, "This is there now. Saving once more replaces it by what you typed below."), theirs]);
      ({ etag } = now);
    } catch (error) {
      if (error.data?.kind !== "not_found") { say(error.message, "bad"); return; }
      etag = "absent";
      say("It is gone. Saving once more makes it anew.", "warn");
    }
  }

  const saveIt = h("button", { type: "button", class: "primary", onclick: save }, "Save");
  const leave = h("button", { type: "button", onclick: () => {
    if (!isDirty() || leave.textContent !== "Close") { close(); return; }
    leave.textContent = "Throw away what was typed";
  } }, "Close");
  const element = h("div", { class: "output" }, h("h3", { tabindex: -1 }, `${isFixed ? "Text" : row.isNew ? "New text" : "Edit"}: ${shown}`), said,
    ends === null && h("p", { class: "notice warn" }, "Its line ends are of several kinds, which a text field would change: it is only shown here."),
    strange > 0 && h("p", { class: "notice warn" }, `${strange} characters of it are invisible, control something or turn the direction of text: it may not be what it looks like.`),
    text, h("p", { class: "buttons" }, !isFixed && saveIt, " ", leave));
  place.prepend(element);
  (isFixed ? element.querySelector("h3") : text).focus();
}
