// Elements are made here and nowhere else; children that are no elements become text.

import { ago, line } from "./text.js";

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in { value: 1, checked: 1, disabled: 1, indeterminate: 1 }) element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

export function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(line(child)));
  }
}

export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

let numbers = 0;
export const newId = (word) => { numbers += 1; return `${word}-${numbers}`; };

export const path = (...parts) => `/${parts.map(encodeURIComponent).join("/")}`;
export const link = (href, ...children) => h("a", { href }, children);
export const code = (text) => h("code", {}, text);
export const badge = (text, kind = "") => h("span", { class: `badge ${kind}` }, text);
export const heading = (level, text, id) => h(`h${level}`, { id }, text);

// The local time, the exact one on hover and for machines.
export function time(value) {
  if (!value) return h("span", { class: "faint" }, "never");
  const date = typeof value === "number" ? new Date(value * 1000) : new Date(value);
  if (Number.isNaN(date.getTime())) return h("span", {}, value);
  const exact = date.toISOString();
  return h("time", { datetime: exact, title: exact }, date.toLocaleString());
}

export function since(value) {
  const date = typeof value === "number" ? new Date(value * 1000) : new Date(value);
  const element = h("time", { datetime: date.toISOString(), title: date.toISOString(), class: "since" });
  age(element);
  return element;
}

function age(element) {
  const text = ago((Date.now() - Date.parse(element.dateTime)) / 1000);
  if (element.textContent !== text) element.textContent = text;
}

// Ages grow by themselves.
export const growOlder = () => { for (const one of document.querySelectorAll("time.since")) age(one); };

// Text of several paragraphs, whose lines were broken somewhere else.
export const prose = (text) => h("div", { class: "about prose" }, String(text ?? "").split(/\n\s*\n/).map((one) => h("p", {}, one.replace(/\s*\n\s*/g, " "))));

// A button that copies a text.
export function copier(text, label) {
  const button = h("button", { type: "button", class: "small", "aria-label": label, onclick: async () => {
    try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; } catch { button.textContent = "Select it"; }
  } }, "Copy");
  return button;
}

// A command to paste, with a button that copies it.
export const command = (text) => h("span", { class: "command" }, code(text), copier(text, `Copy: ${line(text)}`));

// A table: columns are [title, row => content, class]. Wide ones scroll by themselves, by keyboard too.
export function table(caption, columns, rows, empty) {
  if (!rows.length) return h("p", { class: "empty" }, empty);
  return h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": caption },
    h("table", {},
      h("caption", { class: "hidden" }, caption),
      h("thead", {}, h("tr", {}, columns.map(([title, , kind]) => h("th", { scope: "col", class: kind }, title)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, columns.map(([, show, kind], at) =>
        h(at ? "td" : "th", { class: kind, scope: at ? undefined : "row" }, show(row))))))));
}

// A long list, a part at a time.
export function paged(rows, size, show) {
  let from = 0;
  const place = h("div", {});
  const draw = () => {
    const last = Math.min(from + size, rows.length);
    const pager = rows.length > size && h("p", { class: "pager" },
      h("button", { type: "button", disabled: from === 0, onclick: () => { from -= size; draw(); } }, "Previous"),
      ` ${from + 1} to ${last} of ${rows.length} `,
      h("button", { type: "button", disabled: last === rows.length, onclick: () => { from += size; draw(); } }, "Next"));
    place.replaceChildren();
    append(place, [show(rows.slice(from, last)), pager]);
  };
  draw();
  return place;
}

// A part of a page that is drawn again when its model changes; what is focused stays so, or the part itself gets the
// focus if it can have it.
export function region(element, model, draw) {
  let drawn;
  return () => {
    const now = model();
    const key = JSON.stringify(now);
    if (key === drawn) return;
    drawn = key;
    const active = element.contains(document.activeElement) ? document.activeElement : null;
    const mark = active && (active.getAttribute("data-key") ?? active.getAttribute("href") ?? active.textContent);
    element.replaceChildren();
    append(element, [draw(now)]);
    if (active) {
      const same = [...element.querySelectorAll("a, button, input, [tabindex]")].find((one) =>
        (one.getAttribute("data-key") ?? one.getAttribute("href") ?? one.textContent) === mark);
      (same ?? element).focus();
    }
  };
}
