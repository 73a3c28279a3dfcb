// Any object of the contract, by its own fields: what a newer agent adds is shown without a line here.

import { h, time } from "./dom.js";
import { block, bytes } from "./text.js";

const title = (name) => name.replaceAll("_", " ");

export function value(key, one) {
  if (one === null || one === undefined || one === "") return h("span", { class: "faint" }, "none");
  if (typeof one === "boolean") return one ? "yes" : "no";
  if (typeof one === "number") {
    return key.endsWith("_bytes") ? h("span", { title: `${one} bytes` }, bytes(one)) : String(one);
  }
  if (typeof one === "string") {
    return /_at$|^since$|^time$/.test(key) && !Number.isNaN(Date.parse(one)) ? time(one) : h("span", { class: "value" }, one);
  }
  if (Array.isArray(one)) {
    if (!one.length) return h("span", { class: "faint" }, "none");
    return h("ul", { class: "plain" }, one.map((inner) => h("li", {}, value(key, inner))));
  }
  const names = Object.keys(one);
  return names.length ? record(one) : h("span", { class: "faint" }, "none");
}

export function record(object, { leave = [], replace = {} } = {}) {
  const rows = Object.entries(object).filter(([key]) => !leave.includes(key));
  return h("dl", { class: "record" }, rows.map(([key, one]) => h("div", {}, h("dt", {}, title(key)), h("dd", {}, replace[key] ?? value(key, one)))));
}

// The answer of a method as a person reads it.
export function answer(result) {
  if (Array.isArray(result)) {
    if (!result.length) return h("p", { class: "empty" }, "Nothing.");
    return h("div", {}, result.slice(0, 200).map((one) => (one && typeof one === "object" ? record(one) : h("p", {}, value("", one)))),
      result.length > 200 && h("p", { class: "faint" }, `and ${result.length - 200} more`));
  }
  return result && typeof result === "object" ? record(result) : h("p", {}, value("", result));
}

export const json = (object) => { const pre = h("pre", { class: "log", tabindex: 0, role: "group", "aria-label": "JSON" }); pre.textContent = block(JSON.stringify(object, null, 2)); return pre; };
