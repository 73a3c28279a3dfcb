// Output on a page: colours, both streams told apart, search, follow. It draws only what changed.

import { h } from "./dom.js";
import { Screen } from "./terminal.js";
import { block } from "./text.js";

const DRAWN_MS = 60;
const STREAMS = [["", "all"], ["stdout", "stdout only"], ["stderr", "stderr only"]];

// `update` shows another text in its place, `write` adds to a stream; with "follow" the end stays in view.
export function logView(title, first = "", { follows = false, streams = false } = {}) {
  let timer = null;
  const screen = new Screen(() => later());
  const output = h("pre", { class: "log", tabindex: 0, role: "group", "aria-label": title });
  const count = h("span", { class: "faint" });
  const search = h("input", { type: "search", "aria-label": `Search in: ${title}`, placeholder: "Search", oninput: () => draw(true) });
  const which = streams && h("select", { "aria-label": `Streams of: ${title}`, onchange: () => draw(true) }, STREAMS.map(([value, text]) => h("option", { value }, text)));
  const follow = h("input", { type: "checkbox", checked: follows, "aria-label": `Follow: ${title}`, onchange: () => draw() });
  let drawnFrom = 0; // lines with these numbers have been looked at
  let drawnTo = 0;
  let shown = 0;

  const isShown = (line) => {
    if (which?.value && line.stream !== which.value && line.stream !== "note") return false;
    const word = search.value.toLowerCase();
    return !word || block(line.parts.map(([text]) => text).join("")).toLowerCase().includes(word);
  };
  const elementOf = (line) => {
    const element = document.createElement("span");
    element.className = `line ${line.stream}`;
    element.dataset.number = line.number;
    for (const [text, classes] of line.parts) {
      const part = document.createElement("span");
      part.className = classes;
      part.textContent = block(text);
      element.append(part);
    }
    element.append("\n");
    return element;
  };

  function draw(anew = false) {
    clearTimeout(timer);
    timer = null;
    if (anew || screen.first >= drawnTo || screen.next < drawnTo) {
      output.replaceChildren();
      drawnFrom = drawnTo = screen.first;
    }
    while (output.firstChild && Number(output.firstChild.dataset.number) < screen.first) output.firstChild.remove();
    // The last line that was drawn may have grown.
    if (drawnTo > screen.first) {
      drawnTo -= 1;
      if (output.lastChild && Number(output.lastChild.dataset.number) === drawnTo) output.lastChild.remove();
    }
    const added = screen.lines.slice(drawnTo - screen.first).filter(isShown).map(elementOf);
    output.append(...added);
    drawnFrom = screen.first;
    drawnTo = screen.next;
    shown = output.childElementCount;
    const isChosen = search.value || which?.value;
    count.textContent = `${isChosen ? `${shown} of ` : ""}${screen.lines.length} lines${drawnFrom ? `, ${drawnFrom} earlier ones are not shown` : ""}`;
    if (follow.checked) output.scrollTop = output.scrollHeight;
  }
  // A timer and no frame: a page in the background is up to date, too.
  function later() { timer ??= setTimeout(() => draw(), DRAWN_MS); }

  const update = (text) => { screen.clear(); screen.write("stdout", text); screen.finish(); draw(true); };
  if (first) update(first);
  const element = h("div", { class: "logview" }, h("div", { class: "bar" }, search, which, follows && h("label", {}, follow, " follow"), count), output);
  return { element, update, screen, write: (stream, text) => screen.write(stream, text), note: (text) => screen.note(text), finish: () => screen.finish() };
}
