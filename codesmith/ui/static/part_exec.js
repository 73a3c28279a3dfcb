// Run a command: its output as it comes, its end, and a way to stop it. It ends when the page is left.

import { commandForm } from "./command_form.js";
import { append, badge, change, code, h, isReadOnly, methodOf, section } from "./parts.js";
import { logView } from "./logview.js";
import { runCommand } from "./outputs.js";
import { shellQuote } from "./text.js";

const SHOWN = 10;
const ENDED_BY = { timeout: "ended by its time limit", memory: "ended: out of memory", operator: "stopped", disconnect: "ended with its connection" };

// How a command or job ended: {state, exit_code, signal, killed_by, duration_s?}.
export function ending(end) {
  const what = end.state === "lost" ? "lost" : end.signal ? `signal ${end.signal}` : end.exit_code === null || end.exit_code === undefined ? end.state : `exit ${end.exit_code}`;
  return [badge(what, end.exit_code === 0 ? "good" : "bad"), " ", end.killed_by && [badge(ENDED_BY[end.killed_by] ?? `killed by ${end.killed_by}`, "bad"), " "],
    end.duration_s !== undefined && h("span", { class: "faint" }, `${end.duration_s.toFixed(2)} s`)];
}

export function execPart(node, contract, name) {
  const entry = methodOf(contract, "job.start");
  if (!entry || isReadOnly) return null;
  const outputs = h("div", { role: "log", "aria-label": "Output of commands" });
  const running = new Set();

  const run = async (params) => {
    const title = params.argv.map(shellQuote).join(" ");
    const view = logView(`Output of ${params.argv[0]}`, "", { follows: true, streams: true });
    const state = h("span", {}, badge("running", "good"));
    const said = h("p", { class: "notice bad", hidden: true });
    const one = { close: () => {} };
    const stop = h("button", { type: "button", onclick: () => stopIt() }, "Stop");
    const place = h("div", { class: "output" }, h("h3", {}, code(title), " ", state), h("p", { class: "buttons" }, stop), said, view.element);
    const end = ({ kind, data }) => {
      running.delete(one);
      stop.hidden = true;
      state.replaceChildren();
      append(state, [kind === "end" ? ending(data) : badge(kind === "refused" ? "did not start" : "ended: its connection was lost", "bad")]);
      if (kind === "end") return;
      said.hidden = false;
      said.replaceChildren();
      append(said, [data.problem, data.hint && ` ${data.hint}`]);
    };
    let id = "";
    let isUnwanted = false;
    // Once is a request to end; a command that is still there is ended with its stream the second time.
    const stopIt = async () => {
      if (stop.textContent !== "Stop") { one.close(); view.finish(); end({ kind: "lost", data: { problem: "stopped; how it ended was not waited for" } }); return; }
      if (!id) {
        isUnwanted = stop.disabled = true;
        state.replaceChildren(badge("to be stopped as it begins", "bad"));
        return;
      }
      stop.textContent = "Do not wait for its end";
      try { await change(node, methodOf(contract, "job.stop"), { workspace: name, id }, { isSaid: true }); } catch { /* a notice says so */ }
    };
    outputs.prepend(place);
    while (outputs.childElementCount > SHOWN + running.size) outputs.lastChild.remove();
    running.add(one);
    try {
      const begun = await runCommand(node, { ...params, workspace: name }, view, end);
      ({ id } = begun.job);
      one.close = begun.close;
      stop.disabled = false;
      if (isUnwanted && running.has(one)) stopIt();
    } catch (error) {
      running.delete(one);
      place.remove();
      throw error;
    }
  };

  const form = commandForm({
    contract, entry, id: "exec", title: "Command", submit: "Run", key: `${node}/${name}/exec`, more: ["cwd", "env", "timeout_s"], legend: "Directory, environment, time limit",
    about: "Words as a shell splits them; no shell is involved unless you say so. It reads no input, and ends when this page is left: for longer work start a job. This counts as use of the workspace and starts its runtime.",
    onRun: run,
  });
  const draw = () => {};
  draw.leave = () => { for (const one of running) one.close(); };
  return [section("exec-title", "Run a command", form, outputs), draw];
}
