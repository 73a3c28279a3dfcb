// Parts that several pages have: states, methods without a place of their own, the audit record, actions.

import { append, badge, code, command, h, link, paged, path, prose, region, since, table, time } from "./dom.js";
import { confirmDestroy } from "./dialog.js";
import { methodForm } from "./forms.js";
import * as live from "./live.js";
import { answer, json } from "./record.js";
import { act, ask, change, contractOf, methodOf } from "./rpc.js";
import { logView } from "./logview.js";
import { line } from "./text.js";

export const isReadOnly = document.documentElement.hasAttribute("data-read-only");
const KINDS = { ready: "good", ok: "good", active: "good", running: "good", done: "good", down: "bad", failing: "bad", failed: "bad", fail: "bad", disabled: "warn", degraded: "warn", warn: "warn", pending: "warn", connecting: "warn", silent: "warn" };
export const state = (word) => badge(word ?? "unknown", KINDS[word] ?? "");
export const isDestroying = (name) => /\.(assign|delete|purge|remove|remove_keys|revoke|unshare)$/.test(name);

// The state of a node with its reason and the next command.
export function nodeState(node) {
  if (!node) return state("unknown");
  return [state(node.state), node.reason && h("span", {}, " since ", since(node.since), ": ", node.reason),
    node.hint && h("span", { class: "next" }, " ", command(node.hint))];
}

// The page's node cannot be called: said on top of every page about it.
export function outage(name) {
  const place = h("div", { role: "status" });
  return [place, region(place, () => live.get(name, "node"), (node) => node && node.state !== "ready" && node.state !== "unknown" &&
    h("p", { class: `notice ${node.state === "down" ? "bad" : "warn"}` }, `${name} is `, nodeState(node)))];
}

// Draw something once the node's contract is known; say why if it cannot be read.
export function withContract(node, draw) {
  const place = h("div", {}, h("p", { class: "faint" }, "Reading the contract"));
  // What could not be read while the node was down is read when it is back.
  let stop = () => {};
  const load = async () => {
    stop();
    try {
      const contract = await contractOf(node, live.get(node, "info")?.instance_id);
      place.replaceChildren();
      append(place, [draw(contract)]);
    } catch (error) {
      place.replaceChildren();
      append(place, [h("p", { class: "notice bad" }, error.message), h("button", { type: "button", onclick: load }, "Try again")]);
      let wasDown = live.get(node, "node")?.state !== "ready";
      stop = live.onChange(() => {
        const isReady = live.get(node, "node")?.state === "ready";
        if (!place.isConnected) stop();
        else if (wasDown && isReady) load();
        wasDown = !isReady;
      });
    }
  };
  load();
  return place;
}

export function section(id, title, ...children) {
  return h("section", { "aria-labelledby": id }, h("h2", { id }, title), children);
}

// The form of one method in a details element, with its answer below.
export function methodBox({ node, contract, name, fixed = {}, prefill = {}, leave = [], lists, title, submit, losses, intro, verb, open = false, after }) {
  const entry = methodOf(contract, name);
  if (!entry || (isReadOnly && entry["x-mutates"])) return null;
  const place = h("div", { role: "status" });
  const key = `${node}/${name}/${JSON.stringify(fixed)}`;
  const carryOut = async (params) => {
    place.replaceChildren();
    const result = await change(node, entry, params);
    append(place, [after ? after(result) : answer(result)]);
  };
  const { form } = methodForm({ contract, entry, fixed, prefill, leave, lists, key, submit: submit ?? entry.name, onSubmit: (params) =>
    (isDestroying(name) ? destroy(node, name, params, { losses, intro, verb }, carryOut) : carryOut(params)) });
  return h("details", { open }, h("summary", {}, title ?? entry.name), h("p", { class: "about" }, entry.summary), form, place);
}

// What a call that destroys is about.
export const targetOf = (params, method) => line(params.path ?? params.id ?? params.name ?? params.workspace ?? method);

function destroy(node, name, params, { losses, intro, verb = "Delete" }, carryOut) {
  const target = targetOf(params, name);
  return new Promise((resolve) => {
    const dialog = confirmDestroy({
      title: `${name} ${target} on ${node}`, intro, name: target, verb, losses: losses?.(params) ?? [`${target}, and everything in it`],
      onConfirm: async () => { await carryOut(params); resolve(true); },
    });
    dialog.addEventListener("close", () => resolve(false));
  });
}

// Methods that take this object and have no place of their own on the page.
export function otherMethods({ node, contract, prefix, param, value, placed }) {
  const names = contract.methods.filter((one) => !placed.has(one.name) && (
    (one.name.startsWith(`${prefix}.`) && one.params.some((each) => each.name === "name" && each.required)) ||
    one.params.some((each) => each.name === param && each.required))).map((one) => one.name);
  const boxes = names.map((name) => methodBox({
    node, contract, name, fixed: name.startsWith(`${prefix}.`) ? { name: value } : { [param]: value },
  })).filter(Boolean);
  return boxes.length ? section("more", "More that the contract has", boxes) : null;
}

// The audit record, newest first, with filter and paging; the first page follows what happens.
export function auditPart(node, fixed = {}) {
  const place = h("div", {});
  const filters = { ...fixed };
  let before = [];
  let seen;
  const inputs = ["workspace", "user"].filter((one) => !(one in fixed)).map((name) => h("label", {}, `Only ${name} `,
    h("input", { type: "search", autocomplete: "off", spellcheck: "false", onchange: (event) => {
      if (event.target.value.trim()) filters[name] = event.target.value.trim(); else delete filters[name];
      before = [];
      load();
    } })));
  const load = async () => {
    try {
      const rows = await ask(node, "audit.list", { limit: 50, ...filters, ...(before.length && { before: before.at(-1) }) });
      place.replaceChildren();
      append(place, [
        table("Audit record", [
          ["time", (row) => time(row.time)], ["method", (row) => code(row.method)],
          ["target", (row) => Object.entries(row.target).map(([key, one]) => `${key}=${one}`).join(" ")],
          ["by", (row) => row.peer_login ?? row.peer_uid ?? "unknown"], ["outcome", (row) => (row.outcome === "ok" ? "ok" : badge(row.outcome, "warn"))],
          ["exit code", (row) => [row.exit_code ?? "", " ", row.killed_by && badge(row.killed_by, "warn")], "number"],
          ["seconds", (row) => row.duration_s.toFixed(2), "number"], ["request id", (row) => h("span", { class: "faint" }, row.request_id ?? "")],
        ], rows, "Nobody has tried to change anything."),
        h("p", { class: "pager" },
          h("button", { type: "button", disabled: !before.length, onclick: () => { before.pop(); load(); } }, "Newer"), " ",
          h("button", { type: "button", disabled: rows.length < 50, onclick: () => { before.push(rows.at(-1).cursor); load(); } }, "Older")),
      ]);
    } catch (error) {
      place.replaceChildren();
      append(place, [h("p", { class: "notice bad" }, error.message)]);
    }
  };
  const draw = () => {
    const now = live.get(node, "changed");
    if (now === undefined || now === seen) return;
    seen = now;
    if (!before.length && !place.contains(document.activeElement)) load();
  };
  return [section("audit", "Audit record", h("p", { class: "bar" }, inputs), place), draw];
}

// Actions on nodes (plan, prepare, doctor, logs): how far they are and how they ended.
export function actionsPart(shows) {
  const place = h("div", { "aria-live": "polite" });
  return [place, region(place, () => live.all(live.EVERYWHERE, "action/").filter(shows).sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, 12),
    (rows) => rows.map((row, at) => h("details", { class: "action", open: at < 4 },
      h("summary", {}, `${row.kind} on ${row.node} `, state(row.state), " ", row.ended_at ? `${(row.ended_at - row.started_at).toFixed(1)} s` : row.steps.at(-1)?.then ?? ""),
      row.steps.length > 0 && (row.state === "done" ? h("details", {}, h("summary", {}, `${row.steps.length} steps`), stepsOf(row)) : stepsOf(row)),
      row.problem && h("p", { class: "notice bad" }, row.problem, row.hint && h("span", { class: "next" }, " ", command(row.hint))),
      row.result && actionResult(row))))];
}

const stepsOf = (row) => h("ol", { class: "steps" }, row.steps.map((step) => h("li", { class: step.ok ? "" : "bad" }, step.text,
  h("span", { class: "faint" }, ` ${step.seconds} s`), step.message && ` ${step.message}`)));

function actionResult({ kind, node, result }) {
  if (kind === "doctor") {
    return table(`Doctor of ${node}`, [["check", (row) => code(row.code)], ["status", (row) => state(row.status)], ["about", (row) => row.node], ["detail", (row) => row.detail], ["next", (row) => row.next && command(row.next)]], result.findings, "No check was made.");
  }
  if (kind !== "plan") return h("p", {}, `${result.result}, agent ${result.agent_version}`);
  if (!result.steps.length) return h("p", {}, "Nothing to do.");
  return [
    table(`Plan for ${node}`, [["step", (row) => row.text], ["now", (row) => row.before], ["then", (row) => row.after]], result.steps, ""),
    !isReadOnly && h("p", { class: "buttons" }, h("button", { type: "button", class: "primary", "data-key": `prepare ${node}`, onclick: () => start("prepare", [node]) }, `Do all this on ${node}`)),
  ];
}

// The journal of a node as it grows, as long as somebody looks.
export function journalPart(node) {
  const place = h("div", {});
  const said = h("div", { role: "status" });
  const view = logView(`Journal of ${node}`, "", { follows: true });
  const begin = h("button", { type: "button", onclick: () => start("logs", [node]) }, "Follow the journal");
  const end = h("button", { type: "button", hidden: true, onclick: () => start("stop-logs", [node]) }, "Stop following");
  append(place, [h("p", { class: "buttons" }, begin, end), said, view.element]);
  view.element.hidden = true;
  const last = () => live.all(live.EVERYWHERE, "action/").filter((row) => row.kind === "logs" && row.node === node).at(-1);
  const drawState = region(said, () => { const row = last(); return row && { state: row.state, problem: row.problem, hint: row.hint }; },
    (row) => row?.problem && h("p", { class: "notice bad" }, row.problem, row.hint && h("span", { class: "next" }, " ", command(row.hint))));
  let shown;
  return [place, () => {
    const isRunning = ["waiting", "running"].includes(last()?.state);
    const lines = live.get(node, `journal/${node}`);
    begin.hidden = isRunning;
    end.hidden = !isRunning;
    view.element.hidden = !lines;
    if (lines && lines !== shown) { shown = lines; view.update(lines.length ? lines.join("\n") : "(no lines yet)"); }
    drawState();
  }];
}

export async function start(kind, nodes) {
  const place = document.getElementById("notices");
  try {
    await act(kind, nodes);
  } catch (error) {
    const notice = h("div", { class: "notice bad" }, error.message, " ", error.hint);
    place.append(notice);
    setTimeout(() => notice.remove(), 12000);
  }
}

export const goTo = (...parts) => window.dispatchEvent(new CustomEvent("codesmith-go", { detail: parts }));
export { answer, append, badge, change, code, command, confirmDestroy, h, json, link, live, methodForm, methodOf, paged, path, prose, region, since, table, time };
