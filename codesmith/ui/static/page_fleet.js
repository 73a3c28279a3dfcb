// All nodes: state and reason, version, health, disk, workspaces; prepare with the plan first.

import { bytes } from "./text.js";
import { actionsPart, append, command, h, link, live, nodeState, isReadOnly, path, region, start, state } from "./parts.js";

const MATCHES_MAX = 5;

export function fleetPage() {
  const filter = h("input", { type: "search", id: "filter", autocomplete: "off", spellcheck: "false", value: sessionStorage.getItem("draft:filter") ?? "", oninput: () => { sessionStorage.setItem("draft:filter", filter.value); draw(); } });
  const tag = h("select", { id: "tag", onchange: () => draw() }, h("option", { value: "" }, "all"));
  const chosen = new Set();
  const place = h("div", {});
  const summary = h("p", { class: "faint", role: "status" });
  const plan = h("button", { type: "button", disabled: true, onclick: () => start("plan", [...chosen]) }, "Plan to prepare");
  const [actions, drawActions] = actionsPart((row) => row.kind === "plan" || row.kind === "prepare");

  const nodes = () => live.nodeNames().map((name) => live.get(name, "node")).filter(Boolean).sort((a, b) => (a.name < b.name ? -1 : 1));
  const matches = (node, word) => !word || [node.name, node.host, node.state, node.reason, ...node.tags, ...Object.entries(node.labels).map(([key, value]) => `${key}=${value}`), ...(node.names ?? [])].some((one) => String(one ?? "").toLowerCase().includes(word));

  const rows = new Map();
  const body = h("tbody", {});
  const shell = h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Nodes" }, h("table", {}, h("caption", { class: "hidden" }, "Nodes"),
    h("thead", {}, h("tr", {}, ["", "node", "state", "health", "workspaces", "agent", "free disk", "memory", "tags"].map((one) => h("th", { scope: "col" }, one || h("span", { class: "hidden" }, "choose"))))), body));
  const empty = h("div", {});
  append(place, [shell, empty]);

  // A row is made anew only if its node changed: fifty nodes stay fluent.
  const row = (node, word) => {
    const key = JSON.stringify([node, word && (node.names ?? []).filter((one) => one.toLowerCase().includes(word)).slice(0, MATCHES_MAX + 1)]);
    const known = rows.get(node.name);
    if (known?.key === key) return known.element;
    const found = word ? (node.names ?? []).filter((one) => one.toLowerCase().includes(word)) : [];
    const box = h("input", { type: "checkbox", checked: chosen.has(node.name), "aria-label": `Choose ${node.name}`, onchange: () => {
      if (box.checked) chosen.add(node.name); else chosen.delete(node.name);
      plan.disabled = !chosen.size;
    } });
    const element = h("tr", {},
      h("td", {}, box),
      h("th", { scope: "row" }, link(path("nodes", node.name), node.name), h("span", { class: "faint block" }, node.host)),
      h("td", {}, nodeState(node)), h("td", {}, node.state === "ready" && node.health && state(node.health)),
      h("td", {}, node.counts && `${node.names?.length ?? node.counts.workspaces}${node.running ? `, ${node.running} running` : ""}`,
        found.length > 0 && h("ul", { class: "plain" }, found.slice(0, MATCHES_MAX).map((one) => h("li", {}, link(path("nodes", node.name, "workspaces", one), one))), found.length > MATCHES_MAX && h("li", { class: "faint" }, `and ${found.length - MATCHES_MAX} more`))),
      h("td", {}, node.agent_version), h("td", {}, node.disk && `${bytes(node.disk.free_bytes)} of ${bytes(node.disk.total_bytes)}`),
      h("td", {}, bytes(node.memory_bytes)), h("td", {}, node.tags.join(", ")));
    const hadFocus = known?.element.contains(document.activeElement) && (document.activeElement.getAttribute("href") ?? document.activeElement.type);
    if (known?.element.isConnected) known.element.replaceWith(element);
    if (hadFocus) [...element.querySelectorAll("a, input")].find((one) => (one.getAttribute("href") ?? one.type) === hadFocus)?.focus();
    rows.set(node.name, { key, element });
    return element;
  };

  function draw() {
    const every = nodes();
    const word = filter.value.trim().toLowerCase();
    const tags = [...new Set(every.flatMap((one) => one.tags))].sort();
    if (tags.join("\n") !== [...tag.options].slice(1).map((one) => one.value).join("\n")) {
      const was = tag.value;
      tag.replaceChildren(h("option", { value: "" }, "all"), ...tags.map((one) => h("option", { value: one }, one)));
      tag.value = tags.includes(was) ? was : "";
    }
    const shown = every.filter((one) => matches(one, word) && (!tag.value || one.tags.includes(tag.value)));
    const elements = shown.map((one) => row(one, word));
    if (elements.length !== body.children.length || elements.some((one, at) => body.children[at] !== one)) body.replaceChildren(...elements);
    for (const name of [...rows.keys()]) if (!every.some((one) => one.name === name)) { rows.delete(name); chosen.delete(name); }
    shell.hidden = !shown.length;
    drawEmpty({ hasNodes: every.length > 0, isShown: shown.length > 0 });
    const count = every.reduce((sum, one) => sum + (one.names?.length ?? 0), 0);
    summary.textContent = `${shown.length} of ${every.length} nodes, ${count} workspaces`;
    drawActions();
    drawTogether();
  }
  let drawn = "";
  function drawEmpty(model) {
    const registry = live.get(live.EVERYWHERE, "registry");
    const key = JSON.stringify([model, registry]);
    if (key === drawn) return;
    drawn = key;
    empty.replaceChildren();
    append(empty, [
      registry?.problem && h("p", { class: "notice bad" }, registry.problem),
      registry && !model.hasNodes && !registry.problem && h("p", { class: "empty" }, "No nodes yet. Add one: ", command("inv node.add web1 --host web1.example.org")),
      model.hasNodes && !model.isShown && h("p", { class: "empty" }, "No node matches."),
    ]);
  }

  const together = h("p", { class: "buttons" });
  const drawTogether = region(together, () => {
    const last = new Map();
    for (const row of live.all(live.EVERYWHERE, "action/")) if (row.kind === "plan" || row.kind === "prepare") last.set(row.node, row);
    return [...last.values()].filter((row) => row.kind === "plan" && row.result?.steps.length).map((row) => row.node).sort();
  }, (names) => !isReadOnly && names.length > 1 && h("button", { type: "button", class: "primary", onclick: () => start("prepare", names) }, `Do all this on ${names.length} nodes: ${names.join(", ")}`));
  const element = h("div", {},
    h("div", { class: "bar" }, h("label", { for: "filter" }, "Filter "), filter, h("label", { for: "tag" }, "Tag "), tag, summary),
    place,
    !isReadOnly && h("p", { class: "buttons" }, plan), together, actions);
  return { title: "Nodes", view: {}, element, draw };
}
