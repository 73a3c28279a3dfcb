// One node: facts, checks, doctor, prepare, logs, users, workspaces, audit.

import { bytes } from "./text.js";
import { record } from "./record.js";
import { actionsPart, auditPart, badge, h, isReadOnly, journalPart, link, live, methodBox, outage, paged, path, region, section, start, state, table, time, withContract } from "./parts.js";

const ROWS = 100;

export function nodePage(name) {
  const [down, drawDown] = outage(name);
  const [actions, drawActions] = actionsPart((row) => row.node === name && row.kind !== "logs");
  const [journal, drawJournal] = journalPart(name);
  const [audit, drawAudit] = auditPart(name);
  const facts = h("div", {});
  const checks = h("div", {});
  const users = h("div", {});
  const workspaces = h("div", {});
  const filter = h("input", { type: "search", id: "filter", autocomplete: "off", oninput: () => drawWorkspaces() });
  const about = h("p", {});
  const draws = [
    region(about, () => { const node = live.get(name, "node"); return node && [node.state, node.health, node.agent_version, node.names?.length]; },
      (now) => now && [state(now[0]), now[2] && ` agent ${now[2]}`, now[1] && [", checks ", state(now[1])], now[3] !== undefined && `, ${now[3]} workspaces`]),
    drawDown, drawActions, drawAudit, drawJournal,
    region(facts, () => live.get(name, "info"), (info) => (info ? record({ host: live.get(name, "node")?.host, endpoint: live.get(name, "node")?.endpoint, ...info }) : h("p", { class: "faint" }, "Not known yet."))),
    region(checks, () => live.get(name, "health"), (health) => health && [h("p", {}, "Together: ", state(health.status)),
      table("Checks", [["check", (row) => row.name], ["status", (row) => state(row.status)], ["detail", (row) => row.detail]], health.checks, "No checks.")]),
    region(users, () => live.all(name, "user/"), (rows) => paged(rows, ROWS, (part) => table("Users", [
      ["user", (row) => link(path("nodes", name, "users", row.name), row.name)], ["state", (row) => state(row.state)], ["login", (row) => row.login],
      ["keys", (row) => row.ssh_keys.length, "number"], ["workspaces", (row) => row.workspaces.join(", ")], ["created", (row) => time(row.created_at)],
    ], part, "No users yet: create a workspace, and it gets one of its own."))),
  ];
  const drawWorkspaces = region(workspaces, () => {
    const word = filter.value.trim().toLowerCase();
    return live.all(name, "workspace/").filter((row) => !word || [row.name, row.user, ...Object.entries(row.labels).map(([key, value]) => `${key}=${value}`)].some((one) => one.toLowerCase().includes(word)));
  }, (rows) => paged(rows, ROWS, (part) => table("Workspaces", [
    ["workspace", (row) => link(path("nodes", name, "workspaces", row.name), row.name)], ["state", (row) => [state(row.state), row.runtime && [" ", state(row.runtime.state)]]],
    ["user", (row) => link(path("nodes", name, "users", row.user), row.user)], ["labels", (row) => Object.entries(row.labels).map(([key, value]) => badge(`${key}=${value}`))],
    ["repos", (row) => row.repos.join(", ")], ["limits", (row) => (row.sandbox ? Object.entries(row.sandbox.limits).map(([key, value]) => `${key.replace("_bytes", "")} ${key.endsWith("_bytes") ? bytes(value) : value}`).join(", ") || row.sandbox.network : "none")],
    ["last opened", (row) => time(row.opened_at)],
  ], part, "No workspaces here.")));

  const element = h("div", {}, about, down,
    h("p", { class: "buttons" }, !isReadOnly && link(path("nodes", name, "create"), "Create a workspace"), " ", link(path("nodes", name, "api"), "API of this node")),
    section("workspaces", "Workspaces", h("p", { class: "bar" }, h("label", { for: "filter" }, "Filter "), filter), workspaces),
    section("users", "Users", users, withContract(name, (contract) => methodBox({ node: name, contract, name: "user.create", title: "Create a user", submit: "Create the user" }))),
    section("checks", "Checks", checks),
    section("actions", "Doctor and prepare", h("p", { class: "buttons" },
      h("button", { type: "button", onclick: () => start("doctor", [name]) }, "Run all checks (doctor)"), " ",
      h("button", { type: "button", onclick: () => start("plan", [name]) }, "Plan to prepare")), actions),
    section("journal-title", "Journal of agent and helper", journal),
    audit,
    section("facts", "Facts", facts));
  return { title: name, view: { node: name }, trail: [[path("nodes", name), name]], element, draw: () => { draws.forEach((draw) => draw()); drawWorkspaces(); } };
}
