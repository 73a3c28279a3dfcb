// What is under way and how it ended, for all calls of this page, also those of before a reload.

import { append, h } from "./dom.js";
import { onCall } from "./rpc.js";

const KEPT_MS = 6000;
const shown = new Map();

export function start(place) {
  onCall((row) => {
    let notice = shown.get(row.id);
    if (!notice) {
      notice = h("div", { class: "notice" });
      shown.set(row.id, notice);
      place.append(notice);
    }
    draw(notice, row);
  });
}

function draw(notice, row) {
  // A form shows what is wrong at its fields; nobody does for a button or a call of before a reload.
  if (row.state === "refused" && !row.isSaid && !row.isAgain) { gone(notice, row.id); return; }
  const what = `${row.method} ${row.params.name ?? row.params.workspace ?? ""} on ${row.node}`;
  const close = h("button", { type: "button", class: "small", "aria-label": `Dismiss: ${what}`, onclick: () => gone(notice, row.id) }, "Dismiss");
  const text = {
    "under way": row.isAgain ? "is still under way" : "is under way",
    lost: "got no answer yet; it is sent again under the same id, and nothing is done twice",
    done: "is done",
    refused: `was refused: ${row.error?.message ?? ""}`,
  }[row.state];
  notice.className = `notice ${row.state === "refused" ? "bad" : row.state === "lost" ? "warn" : ""}`;
  notice.replaceChildren();
  append(notice, [h("strong", {}, what), ` ${text}`, row.error?.hint && row.state === "refused" && h("span", { class: "hint" }, ` ${row.error.hint}`), close]);
  if (row.state === "done") setTimeout(() => gone(notice, row.id), KEPT_MS);
}

function gone(notice, id) {
  notice.remove();
  shown.delete(id);
}
