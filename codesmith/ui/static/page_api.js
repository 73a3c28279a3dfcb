// Every method of the node's contract: its form, request and answer, and the same as curl and Python.

import { RpcError } from "./rpc.js";
import { block, shellQuote } from "./text.js";
import { answer, append, badge, change, code, confirmDestroy, h, isDestroying, isReadOnly, json, link, live, methodForm, methodOf, outage, path, prose, section, targetOf, withContract } from "./parts.js";

export function apiPage(node, name) {
  const [down, draw] = outage(node);
  const element = h("div", {}, down, withContract(node, (contract) => (name ? one(node, contract, name) : list(node, contract))));
  return { title: name ?? `API of ${node}`, view: { node }, trail: [[path("nodes", node), node], [path("nodes", node, "api"), "API"]], element, draw };
}

function list(node, contract) {
  const prefixes = [...new Set(contract.methods.map((one) => one.name.split(".")[0]))];
  return [h("p", { class: "about" }, contract.info.description), prefixes.map((prefix) => section(`prefix-${prefix}`, prefix, h("ul", { class: "methods" },
    contract.methods.filter((one) => one.name.startsWith(`${prefix}.`)).map((one) => h("li", {}, link(path("nodes", node, "api", one.name), code(one.name)), " ", one["x-mutates"] && badge("changes", "warn"), " ", one.summary)))))];
}

function one(node, contract, name) {
  const entry = methodOf(contract, name);
  if (!entry) return h("p", { class: "notice warn" }, `This node's contract has no method ${name}.`);
  const place = h("div", { role: "status" });
  const wire = h("div", {});
  const show = (params) => {
    wire.replaceChildren();
    append(wire, [
      h("h2", {}, "Request"), json({ jsonrpc: "2.0", id: 1, method: name, params }),
      h("h2", {}, "curl"), pre(curl(node, name, params)), h("h2", {}, "Python"), pre(python(node, name, params)),
    ]);
  };
  const send = async (params) => {
    place.replaceChildren();
    try {
      const result = await change(node, entry, params);
      append(place, [h("h2", {}, "Answer"), answer(result), h("details", {}, h("summary", {}, "As JSON"), json(result))]);
    } catch (error) {
      if (error instanceof RpcError) append(place, [h("h2", {}, "Answer"), json({ code: error.code, message: error.message, data: error.data })]);
      throw error;
    }
  };
  const guarded = (params) => (isDestroying(name) ? new Promise((resolve) => {
    const target = targetOf(params, name);
    const dialog = confirmDestroy({ title: `${name} ${target} on ${node}`, name: target, verb: "Send it", losses: [entry.summary], onConfirm: () => send(params) });
    dialog.addEventListener("close", () => resolve(false));
  }) : send(params).then(() => false));
  const example = entry.examples?.[0]?.params.map((param) => `${param.name}=${JSON.stringify(param.value)}`).join(", ");
  const built = methodForm({ contract, entry, key: `${node}/api/${name}`, submit: "Send", onSubmit: guarded, onRead: show });
  show(built.read());
  return [
    h("p", {}, entry["x-mutates"] ? badge("changes something", "warn") : badge("changes nothing", "good")),
    prose(entry.description ?? entry.summary),
    example && h("p", { class: "faint" }, "Example: ", code(example)),
    isReadOnly && entry["x-mutates"] ? h("p", {}, "These pages are read-only.") : built.form,
    place, wire,
    h("details", {}, h("summary", {}, "Errors"), h("ul", {}, (entry.errors ?? []).map((each) => h("li", {}, code(String(each.code)), " ", each.message)))),
  ];
}

function pre(text) {
  const element = h("pre", { class: "log", tabindex: 0, role: "group", "aria-label": "Command" });
  element.textContent = block(text);
  return element;
}

function curl(node, name, params) {
  const endpoint = live.get(node, "node")?.endpoint ?? "ENDPOINT";
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: name, params });
  return `curl --unix-socket ${shellQuote(endpoint)} --json ${shellQuote(body)} http://localhost/`;
}

const literal = (value) => (value === null ? "None" : value === true ? "True" : value === false ? "False"
  : Array.isArray(value) ? `[${value.map(literal).join(", ")}]`
    : typeof value === "object" ? `{${Object.entries(value).map(([key, one]) => `${JSON.stringify(key)}: ${literal(one)}`).join(", ")}}` : JSON.stringify(value));

function python(node, name, params) {
  const given = Object.entries(params).map(([key, value]) => `${key}=${literal(value)}`).join(", ");
  const call = name === "rpc.discover" ? "discover()" : `${name}(${given})`;
  return `import codesmith\n\nwith codesmith.connect(${JSON.stringify(node)}) as node:\n    print(node.${call})`;
}
