// A form for each method, made from its parameters in the contract. What is typed survives a reload; what the agent
// says about a field stands at that field.

import { append, h, newId } from "./dom.js";
import { SECRETS } from "./rpc.js";
import { line, parseNumber, parseSize, parseTime } from "./text.js";

const drafts = {
  read: (key) => JSON.parse(sessionStorage.getItem(`draft:${key}`) ?? "{}"),
  write: (key, values) => sessionStorage.setItem(`draft:${key}`, JSON.stringify(values)),
  drop: (key) => sessionStorage.removeItem(`draft:${key}`),
};

function resolve(contract, schema) {
  if (schema?.$ref) return resolve(contract, contract.components.schemas[schema.$ref.split("/").pop()]);
  const inner = schema?.oneOf?.find((one) => one.type !== "null");
  return inner ? resolve(contract, inner) : schema ?? {};
}

const pairsOf = (text) => Object.fromEntries(text.split("\n").filter((one) => one.trim()).map((one) => {
  const at = one.indexOf("=");
  return at < 0 ? [one.trim(), ""] : [one.slice(0, at).trim(), one.slice(at + 1)];
}));
const linesOf = (text) => text.split("\n").filter((one) => one.trim() !== "");

const NONE = "none";
const OTHER = "list";
const isNullable = (schema) => Array.isArray(schema.type) && schema.type.includes("null");

// How a value is typed and read: [element kind, how text becomes the value, a word about it].
function kindOf(name, schema) {
  if (isNullable(schema)) {
    const { parse, word, ...rest } = kindOf(name, { ...schema, type: schema.type.find((one) => one !== "null") });
    return { ...rest, parse: (text) => (text.trim().toLowerCase() === NONE ? null : parse(text)), word: `${word} ${NONE} takes it away.`.trim() };
  }
  if (schema.enum) return { tag: "select", parse: (text) => text };
  if (schema.type === "integer" || schema.type === "number") {
    const isSize = name.endsWith("_bytes");
    return { tag: "input", parse: isSize ? parseSize : parseNumber, word: isSize ? "Bytes, or like 512M or 2G." : "" };
  }
  if (schema.type === "array" && resolve(null, schema.items).type === "string") {
    return { tag: "textarea", parse: linesOf, word: "One per line." };
  }
  if (schema.type === "object" && schema.additionalProperties?.type === "string" && !schema.propertyNames?.enum) {
    return { tag: "textarea", parse: pairsOf, word: "KEY=VALUE, one per line." };
  }
  if (schema.format === "date-time") return { tag: "input", parse: parseTime, word: "Like 2026-12-24T18:00:00Z; or 30m, 8h, 7d from now." };
  if (schema.type === "string") return { tag: name === "stdin" ? "textarea" : "input", parse: (text) => text };
  return { tag: "textarea", parse: parseJson, word: "JSON." };
}

function parseJson(text) {
  try { return JSON.parse(text); } catch { return text; }
}

// A word or an object: the words to choose from, and one more that opens the fields of the object.
function choiceOf(contract, name, param, at, initial) {
  const [words, object] = ["enum", "properties"].map((key) => param.schema.oneOf.find((one) => one[key]));
  const chosen = fieldOf(contract, name, { ...param, schema: { enum: [...words.enum, OTHER] } }, at, initial);
  const required = param.required ? object.required : [];
  const inner = fieldOf(contract, OTHER, { schema: { ...object, required } }, [...at, OTHER], initial);
  const show = () => { inner.element.hidden = chosen.control.value !== OTHER; };
  chosen.control.addEventListener("change", show);
  show();
  const empty = Object.fromEntries((object.required ?? []).map((key) => [key, []]));
  const read = () => (chosen.control.value === OTHER ? { ...empty, ...inner.read() } : chosen.read());
  return { ...chosen, element: h("div", {}, chosen.element, inner.element), controls: [...chosen.controls, ...inner.controls], read, reset: show };
}

// One field; `at` is its path, `read` gives undefined for one that is left empty.
function fieldOf(contract, name, param, at, initial) {
  const options = param.schema.oneOf ?? [];
  if (options.some((one) => one.enum) && options.some((one) => one.properties)) return choiceOf(contract, name, param, at, initial);
  const schema = resolve(contract, param.schema);
  const id = newId("field");
  const isSecret = SECRETS.has(name) || SECRETS.has(at[0]);
  const problem = h("p", { class: "problem", id: `${id}-problem`, hidden: true });
  const title = [name.replaceAll("_", " "), param.required && h("span", { class: "faint" }, " (required)")];
  const names = schema.properties ?? (schema.propertyNames?.enum
    ? Object.fromEntries(schema.propertyNames.enum.map((one) => [one, { type: "string" }])) : null);
  if (schema.type === "object" && names) {
    const inner = Object.entries(names).map(([key, value]) => fieldOf(contract, key,
      { schema: value, description: value.description, required: schema.required?.includes(key) && param.required }, [...at, key], initial));
    const element = h("fieldset", {}, h("legend", {}, title), about(param.description), problem, inner.map((one) => one.element));
    const read = () => {
      const found = Object.fromEntries(inner.map((one) => [one.name, one.read()]).filter(([, value]) => value !== undefined));
      return Object.keys(found).length ? found : undefined;
    };
    return { name, at, element, inner, read, problem, control: element, controls: inner.flatMap((one) => one.controls) };
  }
  const description = h("p", { class: "about", id: `${id}-about` });
  const start = initial[at.join(".")];
  if (schema.type === "boolean") {
    const control = h("input", { type: "checkbox", id, checked: start ?? schema.default ?? false, "aria-describedby": `${id}-about ${id}-problem` });
    append(description, [param.description]);
    const element = h("div", { class: "field check" }, control, h("label", { for: id }, title), description, problem);
    return { name, at, element, problem, control, controls: [[at, control]], read: () => (control.checked === (schema.default ?? false) ? undefined : control.checked) };
  }
  const { tag, parse, word } = kindOf(name, schema);
  append(description, [param.description, param.description && word && " ", word]);
  const common = { id, name: at.join("."), "aria-describedby": `${id}-about ${id}-problem`, autocomplete: "off", spellcheck: "false" };
  const control = tag === "select"
    ? h("select", common, !param.required && h("option", { value: "" }, "(default)"), schema.enum.map((one) => h("option", { value: one }, one)))
    : tag === "textarea" ? h("textarea", { ...common, rows: 3 })
      : h("input", { ...common, type: isSecret ? "password" : "text", placeholder: schema.examples?.[0], list: param.list });
  if (start !== undefined) control.value = start;
  const element = h("div", { class: "field" }, h("label", { for: id }, title), control, description, problem);
  const read = () => (control.value === "" ? undefined : parse(control.value));
  return { name, at, element, problem, control, controls: isSecret ? [] : [[at, control]], read };
}

const about = (text) => text && h("p", { class: "about" }, text);

// Where the agent's {field, problem} belongs: "[memory_bytes] must be ..." is about a part of a field.
function placeOf(fields, { field, problem }) {
  let found = fields.find((one) => one.name === field);
  let text = problem;
  for (let part; found?.inner && (part = /^\[([^\]]+)\]\s*(.*)$/s.exec(text)); text = part[2]) {
    const inner = found.inner.find((one) => one.name === part[1]);
    if (!inner) break;
    found = inner;
  }
  return { found, text };
}

// A form of a method. `fixed` are parameters that the page knows, `prefill` are first values by name, `leave` are left out,
// `lists` are ids of datalist elements by name.
export function methodForm({ contract, entry, fixed = {}, prefill = {}, leave = [], lists = {}, key, submit, onSubmit, onRead, extra }) {
  const initial = { ...prefill, ...drafts.read(key) };
  const params = entry.params.filter(({ name }) => !(name in fixed) && name !== "request_id" && !leave.includes(name));
  const fields = params.map((param) => fieldOf(contract, param.name, { ...param, list: lists[param.name] }, [param.name], initial));
  const controls = fields.flatMap((one) => one.controls);
  const whole = h("p", { class: "problem", role: "alert", hidden: true });
  const button = h("button", { type: "submit", class: "primary" }, submit);
  const read = () => {
    const given = Object.fromEntries(fields.map((one) => [one.name, one.read()]).filter(([, value]) => value !== undefined));
    return { ...given, ...fixed };
  };
  const form = h("form", { novalidate: true, autocomplete: "off", "aria-label": submit, onsubmit: async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    clear();
    button.disabled = true;
    try {
      if (await onSubmit(read()) !== false) { drafts.drop(key); form.reset(); for (const one of fields) one.reset?.(); onRead?.(read()); }
    } catch (error) {
      show(error);
    } finally {
      button.disabled = false;
    }
  } }, fields.map((one) => one.element), whole, h("p", { class: "buttons" }, button, extra));
  form.addEventListener("input", () => {
    drafts.write(key, Object.fromEntries(controls.map(([at, one]) => [at.join("."), one.type === "checkbox" ? one.checked : one.value])));
    onRead?.(read());
  });

  function clear() {
    for (const one of form.querySelectorAll(".problem")) { one.hidden = true; one.replaceChildren(); }
    for (const one of form.querySelectorAll("[aria-invalid]")) one.removeAttribute("aria-invalid");
  }

  function show(error) {
    const rest = [];
    let first = null;
    for (const one of error.data?.errors ?? []) {
      const { found, text } = placeOf(fields, one);
      if (!found) { rest.push(`${one.field} ${one.problem}`); continue; }
      found.problem.hidden = false;
      found.problem.append(document.createTextNode(line(`${found.problem.textContent ? "; " : ""}${text}`)));
      found.control.setAttribute("aria-invalid", "true");
      first ??= found.control;
    }
    if (!first || rest.length) {
      whole.hidden = false;
      append(whole, [rest.join("; ") || error.message, error.hint && h("span", { class: "hint" }, ` ${error.hint}`)]);
    }
    (first ?? button).focus?.();
  }

  return { form, read };
}
