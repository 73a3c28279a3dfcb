// Output of commands: colours, search, and a bound. Escape sequences that are no colours are shown, not obeyed.

import { h } from "./dom.js";
import { block } from "./text.js";

const LINES_MAX = 5000;
const COLOURS = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

// Parts of a text with the classes that its colours ask for.
export function parts(text) {
  const found = [];
  let classes = new Set();
  let from = 0;
  const push = (until) => { if (until > from) found.push([block(text.slice(from, until)), [...classes].join(" ")]); };
  for (const match of text.matchAll(/\u001b\[([0-9;]*)m/g)) {
    push(match.index);
    from = match.index + match[0].length;
    classes = styled(classes, match[1] === "" ? [0] : match[1].split(";").map(Number));
  }
  push(text.length);
  return found;
}

function styled(before, codes) {
  let classes = new Set(before);
  const colour = (kind, name) => {
    classes = new Set([...classes].filter((one) => !one.startsWith(kind)));
    if (name) classes.add(`${kind}${name}`);
  };
  for (let at = 0; at < codes.length; at += 1) {
    const number = codes[at];
    if (number === 0) classes = new Set();
    else if (number === 1) classes.add("bold");
    else if (number === 4) classes.add("underline");
    else if (number === 22) classes.delete("bold");
    else if (number === 24) classes.delete("underline");
    else if (number >= 30 && number <= 37) colour("fg-", COLOURS[number - 30]);
    else if (number >= 90 && number <= 97) colour("fg-", COLOURS[number - 90]);
    else if (number >= 40 && number <= 47) colour("bg-", COLOURS[number - 40]);
    else if (number === 38 || number === 48) at += codes[at + 1] === 5 ? 2 : 4; // 256 colours: not drawn
    else if (number === 39) colour("fg-", "");
    else if (number === 49) colour("bg-", "");
  }
  return classes;
}

// `update` shows another text in its place; with "follow" the end stays in view.
export function logView(title, first, { follows = false } = {}) {
  let lines = [];
  let left = 0;
  const output = h("pre", { class: "log", tabindex: 0, role: "group", "aria-label": title });
  const count = h("span", { class: "faint", role: "status" });
  const search = h("input", { type: "search", "aria-label": `Search in: ${title}`, placeholder: "Search", oninput: () => draw() });
  const follow = h("input", { type: "checkbox", checked: follows, "aria-label": `Follow: ${title}` });
  const draw = () => {
    const word = search.value.toLowerCase();
    const chosen = word ? lines.filter((one) => one.toLowerCase().includes(word)) : lines;
    output.replaceChildren(...chosen.flatMap((one) => [
      ...parts(one).map(([piece, classes]) => { const span = document.createElement("span"); span.className = classes; span.textContent = piece; return span; }),
      document.createTextNode("\n"),
    ]));
    count.textContent = `${word ? `${chosen.length} of ` : ""}${lines.length} lines${left ? `, ${left} earlier ones are not shown` : ""}`;
    if (follow.checked) output.scrollTop = output.scrollHeight;
  };
  const update = (text) => {
    lines = text.replace(/\n$/, "").split("\n");
    left = Math.max(0, lines.length - LINES_MAX);
    lines = lines.slice(left);
    draw();
  };
  update(first);
  const element = h("div", { class: "logview" }, h("div", { class: "bar" }, search, follows && h("label", {}, follow, " follow"), count), output);
  return { element, update };
}
