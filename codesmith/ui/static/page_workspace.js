// One workspace: what it is, its runtime and usage, commands, jobs, files, ports, limits, repos, labels, who may enter, tokens, audit, its end.

import { chart } from "./chart.js";
import { time } from "./dom.js";
import { lossesOf } from "./losses.js";
import { execPart } from "./part_exec.js";
import { filesPart } from "./part_files.js";
import { forwardsPart } from "./part_forwards.js";
import { jobsPart } from "./part_jobs.js";
import { tokensPart } from "./part_tokens.js";
import { usersPart } from "./part_users.js";
import { record } from "./record.js";
import { ask, takes } from "./rpc.js";
import { bytes } from "./text.js";
import { append, auditPart, badge, change, code, command, confirmDestroy, goTo, h, isReadOnly, link, live, methodBox, methodForm, methodOf, otherMethods, outage, path, region, section, state, table, withContract } from "./parts.js";

const PLACED = new Set([
  "workspace.create", "workspace.get", "workspace.list", "workspace.open", "workspace.update", "workspace.assign", "workspace.delete", "workspace.exec", "workspace.dial",
  "workspace.start", "workspace.stop", "workspace.usage", "workspace.share", "workspace.unshare", "sandbox.create", "sandbox.get", "sandbox.list", "sandbox.delete", "sandbox.update",
  "repo.init", "repo.clone", "repo.get", "repo.list", "repo.delete", "audit.list",
  "job.start", "job.get", "job.list", "job.logs", "job.attach", "job.wait", "job.stop", "job.delete",
  "token.create", "token.list", "token.revoke",
  "file.list", "file.stat", "file.read", "file.write", "file.edit", "file.search", "file.move", "file.remove", "file.make_directory",
]);

const EDITORS = [["VS Code", "vscode"], ["Cursor", "cursor"]];

export function workspacePage(node, name) {
  const [down, drawDown] = outage(node);
  const [audit, drawAudit] = auditPart(node, { workspace: name });
  const one = () => live.get(node, `workspace/${name}`);
  const about = h("div", {});
  const usage = h("div", {});
  const drawAbout = region(about, () => one() ?? (live.get(node, "node")?.names ? null : undefined), (row) => (row
    ? record(row, { leave: ["labels", "repos", "sandbox"], replace: { state: state(row.state), user: link(path("nodes", node, "users", row.user), row.user), ...(row.runtime && { runtime: [state(row.runtime.state), " ", record(row.runtime, { leave: ["state"] })] }) } })
    : row === null && h("p", { class: "notice warn" }, `No workspace ${name} on ${node} (any more).`)));
  const drawUsage = region(usage, () => live.get(node, `usage/${name}`) ?? null, (found) => found && section("usage", "Usage", usageOf(found)));

  const box = (contract, method, more) => methodBox({ node, contract, name: method, fixed: method.startsWith("workspace.") ? { name } : { workspace: name }, ...more });
  const methods = withContract(node, (contract) => [
    section("enter", "Enter", h("p", {}, command(`inv workspace.open ${name} --shell --node ${node}`)), h("p", {}, "Or, once ", code("inv ssh.config --install"), " has been run: ", command(`ssh ${name}.${node}.codesmith`)), h("p", {}, "Or in an editor: ", command(`inv workspace.open ${name} --editor code --node ${node}`), h("span", { class: "faint" }, " Once that has been run: "), EDITORS.map(([title, scheme]) => [
      h("a", { href: `${scheme}://vscode-remote/ssh-remote+${name}.${node}.codesmith${encodeURI(one()?.path ?? `/srv/codesmith/workspaces/${name}`)}` }, title), " "])),
      h("p", { class: "buttons" }, button(node, contract, "workspace.start", name, "Start"), " ", button(node, contract, "workspace.stop", name, "Stop"))),
    execPart(node, contract, name),
    jobsPart(node, contract, name, one),
    filesPart(node, contract, name),
    forwardsPart(node, name),
    limitsPart(node, contract, name, one, box),
    reposPart(node, contract, name, one, box),
    labelsPart(node, contract, name, one),
    usersPart(node, contract, name, one, box),
    tokensPart(node, contract, name),
    otherMethods({ node, contract, prefix: "workspace", param: "workspace", value: name, placed: PLACED }),
    !isReadOnly && section("end", "Delete", h("p", { class: "buttons" }, h("button", { type: "button", class: "danger", onclick: () => deleteIt(node, contract, name, one()) }, "Delete the workspace"))),
  ].map((part) => (Array.isArray(part) ? part : [part])).map(([part, draw]) => { if (draw) { later.push(draw); draw(); } return part; }));
  const later = [];
  const element = h("div", {}, down, about, usage, methods, audit);
  return {
    title: name, view: { node, workspace: name }, trail: [[path("nodes", node), node], [path("nodes", node, "workspaces", name), name]], element,
    draw: () => { drawDown(); drawAbout(); drawUsage(); drawAudit(); later.forEach((draw) => draw()); },
    leave: () => later.forEach((draw) => draw.leave?.()),
  };
}

function usageOf({ latest, points }) {
  const series = (key) => points.filter((point) => point[key] !== undefined).map((point) => ({ at: point.at, value: point[key] }));
  const cpu = points.slice(1).map((point, at) => ({ at: point.at, value: Math.max(0, (point.cpu_s - points[at].cpu_s) / Math.max(point.at - points[at].at, 0.1)) })).filter((point) => Number.isFinite(point.value));
  const shown = [
    latest.memory_bytes !== undefined && chart("memory", series("memory_bytes"), bytes, latest.memory_limit_bytes ?? undefined),
    cpu.length > 0 && chart("processors", cpu, (value) => value.toFixed(2)),
    latest.tasks !== undefined && chart("tasks", series("tasks"), String),
    latest.disk_bytes !== undefined && chart("disk", series("disk_bytes"), bytes),
  ];
  return [h("div", { class: "charts" }, shown), record(latest)];
}

function button(node, contract, method, name, title) {
  const entry = methodOf(contract, method);
  if (!entry || isReadOnly) return null;
  return h("button", { type: "button", onclick: () => change(node, entry, { name }, { isSaid: true }).catch(() => {}) }, title);
}

function limitsPart(node, contract, name, one, box) {
  const place = h("div", {});
  const draw = region(place, () => one()?.sandbox ?? null, (sandbox) => (sandbox ? record(sandbox, { leave: ["workspace"] }) : h("p", { class: "empty" }, "No limits of its own, full network.")));
  const set = box(contract, "sandbox.create", { title: "Set limits", submit: "Set the limits" });
  const update = box(contract, "sandbox.update", { title: "Change limits", submit: "Change the limits" });
  const [denied, drawDenied] = deniedPart(node, contract, name);
  const remove = box(contract, "sandbox.delete", { title: "Remove the limits", submit: "Remove the limits", losses: () => ["all limits of the workspace, and its network mode", "commands that run in it now are ended"] });
  // What was typed stays: a form that makes no sense now is hidden and not thrown away.
  const drawAll = () => {
    draw();
    drawDenied();
    if (set) set.hidden = Boolean(one()?.sandbox) && !set.open;
    for (const box of [update, remove]) if (box) box.hidden = !one()?.sandbox && !box.open;
  };
  return [section("limits", "Limits and network", place, denied, set, update, remove), drawAll];
}

// What the list has refused, with a button that allows it. Programs in the workspace chose these names.
function deniedPart(node, contract, name) {
  const place = h("div", {});
  const entry = methodOf(contract, "sandbox.update");
  const allow = (row) => h("button", { type: "button", "aria-label": `Allow ${hostOf(row)}`, onclick: () => change(node, entry, { workspace: name, allow: [hostOf(row)] }, { isSaid: true }).catch(() => {}) }, "Allow");
  const draw = region(place, () => live.get(node, `usage/${name}`)?.latest?.network?.denied ?? [], (rows) => rows.length > 0 && table("Refused hosts", [
    ["host", hostOf], ["how often", (row) => String(row.count)], ["last", (row) => time(row.last_at)],
    ...(entry && !isReadOnly ? [["allow", allow]] : []),
  ], rows, ""));
  return [place, draw];
}

// A host as a list has it: ports 80 and 443 go without saying.
function hostOf({ host, port }) {
  const isUsual = port === 80 || port === 443;
  if (host.includes(":")) return isUsual ? host : `[${host}]:${port}`;
  return isUsual ? host : `${host}:${port}`;
}

// Their names are known; branch and commit are read inside the workspace, so only when somebody asks.
function reposPart(node, contract, name, one, box) {
  const place = h("div", {});
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  let looked = null;
  const deleteBox = (repo, url) => box(contract, "repo.delete", { fixed: { workspace: name, name: repo }, title: "Delete", submit: `Delete ${repo}`, losses: () => [`code/${repo} with all its commits and changed files`, url ? `what was never pushed to ${url}` : "there may be no other copy of it"] });
  const unknown = h("span", { class: "faint" }, "not looked at");
  const known = (row, show) => (row.isLooked ? show(row) : unknown.cloneNode(true));
  const rows = () => (one()?.repos ?? []).map((repo) => ({ name: repo, path: `code/${repo}`, ...looked?.get(repo), isLooked: Boolean(looked?.has(repo)) }));
  const draw = region(place, rows, (found) => table("Repos", [
    ["repo", (row) => row.name], ["branch", (row) => known(row, () => row.branch ?? "none")], ["commit", (row) => known(row, () => (row.commit ? code(row.commit.slice(0, 12)) : "none"))],
    ["from", (row) => known(row, () => row.url ?? "made here")], ["path", (row) => row.path], ["delete", (row) => deleteBox(row.name, row.url)],
  ], found, "No repos that CodeSmith made here."));
  const look = h("button", { type: "button", onclick: async () => {
    look.disabled = true;
    problem.hidden = true;
    try {
      looked = new Map((await ask(node, "repo.list", { workspace: name })).map((row) => [row.name, row]));
    } catch (error) {
      problem.replaceChildren();
      append(problem, [error.message, error.hint && ` ${error.hint}`]);
      problem.hidden = false;
    }
    look.disabled = false;
    draw();
  } }, "Look at branches and commits");
  const bar = h("p", { class: "buttons" }, look, " ", badge("starts the runtime if it is stopped"));
  const drawAll = () => { draw(); bar.hidden = !one()?.repos?.length; };
  return [section("repos", "Repos", place, bar, problem, box(contract, "repo.clone", { title: "Clone a repo", submit: "Clone it" }), box(contract, "repo.init", { title: "Make an empty repo", submit: "Make it" })), drawAll];
}

// Labels are typed as lines. Where the contract merges them, those that were taken away are sent as null.
function labelsPart(node, contract, name, one) {
  const entry = methodOf(contract, "workspace.update");
  const place = h("p", {});
  const draw = region(place, () => one()?.labels ?? {}, (labels) => (Object.keys(labels).length ? Object.entries(labels).map(([key, value]) => [badge(`${key}=${value}`), " "]) : h("span", { class: "empty" }, "No labels.")));
  if (!entry || isReadOnly || !takes(entry, "labels")) return [section("labels", "Labels", place), draw];
  const schema = entry.params.find((param) => param.name === "labels").schema;
  const merges = Boolean(schema.additionalProperties?.oneOf);
  const form = h("div", {});
  const key = `${node}/labels/${name}`;
  const begin = () => {
    form.replaceChildren();
    // What was shown with a draft stays so over a reload: what others have set since is not taken away.
    if (!sessionStorage.getItem(`draft:${key}`)) sessionStorage.setItem(`draft:${key}/shown`, JSON.stringify(Object.keys(one()?.labels ?? {})));
    const keys = JSON.parse(sessionStorage.getItem(`draft:${key}/shown`) ?? "[]");
    const prefill = { labels: Object.entries(one()?.labels ?? {}).map(([key, value]) => `${key}=${value}`).join("\n") };
    const shown = merges ? { ...entry, params: entry.params.map((param) => (param.name === "labels" ? { ...param, schema: { ...schema, additionalProperties: { type: "string" } } } : param)) } : entry;
    form.append(methodForm({ contract, entry: shown, fixed: { name }, prefill, key, submit: "Save the labels", onSubmit: async (params) => {
      const labels = params.labels ?? {};
      if (merges) for (const gone of keys) if (!(gone in labels)) labels[gone] = null;
      await change(node, entry, { name, labels });
      setTimeout(begin, 0);
    } }).form);
  };
  return [section("labels", "Labels", place, h("details", { ontoggle: (event) => { if (event.target.open && !form.firstChild) begin(); } }, h("summary", {}, "Change the labels"), form)), draw];
}

function deleteIt(node, contract, name, row) {
  const entry = methodOf(contract, "workspace.delete");
  const keep = h("input", { type: "checkbox", id: "keep-user" });
  const repos = row?.repos ?? [];
  confirmDestroy({
    title: `Delete ${name} on ${node}`, name, verb: "Delete the workspace",
    losses: [
      `all files in ${row?.path ?? name}${row?.home ? ` and ${row.home}` : ""}`,
      row?.runtime?.state !== "running" && (repos.length ? `the repos ${repos.join(", ")}, also what was never pushed` : "it has no repos that CodeSmith made; others may be there"),
      ...lossesOf(node, contract, name, row),
      row?.runtime?.state === "running" ? "all that runs in it now" : "nothing that runs",
      row?.user === name ? `its user ${name} with keys and home, unless kept or in use` : `its user ${row?.user} stays`,
    ].filter(Boolean),
    options: takes(entry, "keep_user") && row?.user === name && h("div", { class: "check" }, keep, h("label", { for: "keep-user" }, "Keep the user")),
    onConfirm: async () => {
      await change(node, entry, { name, ...(keep.checked && { keep_user: true }) });
      goTo("nodes", node);
    },
  });
}
