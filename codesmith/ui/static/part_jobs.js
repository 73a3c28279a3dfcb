// Jobs: commands that go on whoever is connected; their list is live, their output is read when somebody asks for it.

import { commandForm } from "./command_form.js";
import { confirmDestroy, openDialog } from "./dialog.js";
import { methodForm } from "./forms.js";
import { append, badge, change, code, command, h, isReadOnly, live, methodOf, region, section, since, state, table, time } from "./parts.js";
import { ending } from "./part_exec.js";
import { logView } from "./logview.js";
import { followJob } from "./outputs.js";
import { downloadLog, save } from "./transfer.js";
import { bytes, line, shellQuote } from "./text.js";

const SHOWN = 25;
const isEnded = (job) => !["running", "waiting"].includes(job.state);
const commandOf = (job) => job.argv.map(shellQuote).join(" ");
const titleOf = (job) => job.name ?? job.id;

export function jobsPart(node, contract, name, one) {
  if (!methodOf(contract, "job.list")) return null;
  const place = h("div", { tabindex: -1 });
  const panels = h("div", {});
  const open = new Map();
  let shown = SHOWN;
  const jobs = () => live.all(node, `job/${name}/`).sort((a, b) => b.at - a.at);
  const jobOf = (id) => live.get(node, `job/${name}/${id}`);
  const can = (method) => !isReadOnly && methodOf(contract, method);

  const buttons = (job) => [
    !job.ends_with_stream && button(job, "Output", () => openPanel(job)),
    !isEnded(job) && can("job.stop") && button(job, "Stop", () => stopIt(node, contract, name, job)),
    isEnded(job) && can("job.delete") && button(job, "Delete", () => deleteIt(node, contract, name, job)),
  ];
  const drawTable = region(place, () => ({ rows: jobs(), shown, ...live.get(node, `jobs/${name}`) }), ({ rows, problem, hint }) => [
    problem && h("p", { class: "notice warn" }, problem, hint && [" ", command(hint)]),
    table("Jobs", [
      ["job", (job) => [titleOf(job), job.name && h("span", { class: "faint" }, ` ${job.id}`)]],
      ["state", (job) => (isEnded(job) ? ending(job) : state(job.state))],
      ["command", (job) => [code(commandOf(job)), job.ends_with_stream && h("span", { class: "faint" }, " ends with its stream"), job.tty && h("span", { class: "faint" }, " has a terminal")]],
      ["started", (job) => (job.started_at ? time(job.started_at) : h("span", { class: "faint" }, "not yet"))],
      ["took", (job) => tookOf(job)],
      ["wrote", (job) => bytes(job.stdout_bytes + job.stderr_bytes), "number"],
      ["by", (job) => job.by ?? "from inside"],
      ["do", (job) => h("span", { class: "row" }, buttons(job))],
    ], rows.slice(0, shown), "No jobs. One that is started here, by inv job.start or from inside is on this page within a second."),
    rows.length > shown && h("p", { class: "pager" }, h("button", { type: "button", onclick: () => { shown += SHOWN; draw(); } }, `Show older ones (${rows.length - shown} more)`)),
  ]);
  const draw = () => { drawTable(); for (const panel of open.values()) panel.draw(); };

  function openPanel(job) {
    if (open.has(job.id)) { open.get(job.id).element.querySelector("h3").focus(); return; }
    const panel = outputPanel(node, name, job, {
      jobOf, mayReadOn: () => jobOf(job.id)?.state === "running" || one()?.runtime?.state === "running",
      onClose: () => {
        open.delete(job.id);
        panel.element.remove();
        (place.querySelector(`[data-key="Output ${job.id}"]`) ?? place).focus();
      },
    });
    open.set(job.id, panel);
    panels.prepend(panel.element);
    panel.element.querySelector("h3").focus();
  }
  draw.leave = () => { for (const panel of open.values()) panel.leave(); };

  const entry = can("job.start");
  const form = entry && commandForm({
    contract, entry, id: "job", title: "Command of the job", submit: "Start the job", key: `${node}/${name}/job`, more: ["cwd", "env", "name", "timeout_s"], once: ["name"], legend: "Name, directory, environment, time limit",
    about: "It goes on when this page is left, has no terminal and no input, and ends with the runtime. Its output is kept in the workspace.",
    onRun: async (params) => { openPanel(await change(node, entry, { ...params, workspace: name })); },
  });
  return [section("jobs", "Jobs", form, place, h("p", { class: "about" }, "The list starts nothing. Output is read from the workspace: Output starts the runtime if it is stopped."), panels), draw];
}

const button = (job, text, onclick) => h("button", { type: "button", class: "small", "data-key": `${text} ${job.id}`, "aria-label": `${text}: ${line(titleOf(job))}`, onclick }, text);

function tookOf(job) {
  if (!job.started_at) return "";
  if (!isEnded(job)) return since(job.started_at);
  return job.ended_at ? `${((Date.parse(job.ended_at) - Date.parse(job.started_at)) / 1000).toFixed(1)} s` : "unknown";
}

function outputPanel(node, name, job, { jobOf, mayReadOn, onClose }) {
  const view = logView(`Output of ${line(titleOf(job))}`, "", { follows: true, streams: true });
  const status = h("span", { role: "status" });
  const about = h("span", {});
  const drawAbout = region(about, () => jobOf(job.id) ?? job, (now) => (isEnded(now) ? ending(now) : state(now.state)));
  const again = h("button", { type: "button", hidden: true, onclick: () => { again.hidden = true; reading.again(); } }, "Read on");
  let isStopped = false;
  const fetchIt = h("button", { type: "button", onclick: async () => {
    fetchIt.disabled = true;
    try {
      const blob = await downloadLog(node, name, job.id, { onProgress: (read) => { fetchIt.textContent = `Download: ${bytes(read)}`; }, isStopped: () => isStopped });
      if (blob) save(blob, `${job.id}.log`);
      fetchIt.textContent = "Download";
    } catch (error) {
      fetchIt.textContent = "Download";
      say(`the download failed: ${error.message}`);
    }
    fetchIt.disabled = false;
  } }, "Download");
  const say = (text) => { if (status.textContent !== line(text)) { status.replaceChildren(); append(status, [text]); } };
  const reading = followJob(node, name, job.id, view, { mayReadOn, onState: ({ kind, data, waits }) => {
    if (kind === "reading") say("reading");
    else if (kind === "end") say("this is its end");
    else { say(`${kind === "lost" ? "the connection was lost" : "it cannot be read"}: ${data.problem} ${data.hint ?? ""}`); again.hidden = Boolean(waits); }
  } });
  const leave = () => { isStopped = true; reading.close(); };
  const element = h("div", { class: "output" },
    h("h3", { tabindex: -1 }, `Output of ${line(titleOf(job))} `, about),
    h("p", { class: "buttons" }, fetchIt, " ", again, " ", h("button", { type: "button", onclick: () => { leave(); onClose(); } }, "Close"), " ", status), view.element);
  return { element, draw: drawAbout, leave };
}

function stopIt(node, contract, name, job) {
  const entry = methodOf(contract, "job.stop");
  openDialog(`Stop ${titleOf(job)}`, (close) => [
    h("p", { class: "about" }, code(commandOf(job))),
    methodForm({ contract, entry, fixed: { workspace: name, id: job.id }, key: `${node}/job.stop`, submit: "Stop the job",
      extra: h("button", { type: "button", onclick: close }, "Let it run"),
      onSubmit: async (params) => { await change(node, entry, params); close(); } }).form,
  ]);
}

function deleteIt(node, contract, name, job) {
  confirmDestroy({
    title: `Delete the job ${titleOf(job)}`, name: line(titleOf(job)), verb: "Delete the job",
    losses: [`its record, and its log of ${bytes(job.stdout_bytes + job.stderr_bytes)} or what is left of it`],
    onConfirm: () => change(node, methodOf(contract, "job.delete"), { workspace: name, id: job.id }),
  });
}
