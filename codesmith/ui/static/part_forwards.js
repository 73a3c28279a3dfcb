// Ports of a workspace on the machine of these pages: kept by the forwarder, whoever is connected.

import { answerOf } from "./access.js";
import { append, h, isReadOnly, live, region, section, since, state, table } from "./parts.js";
import { command } from "./dom.js";

export function forwardsPart(node, name) {
  const place = h("div", {});
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const say = (error) => {
    problem.hidden = !error;
    problem.replaceChildren();
    if (error) append(problem, [error.message, error.hint && ` ${error.hint}`]);
  };
  const post = async (what, params) => {
    say(null);
    try { await answerOf(`/nodes/${encodeURIComponent(node)}/${what}`, { workspace: name, ...params }); return true; } catch (error) { say(error); return false; }
  };
  const rows = () => live.all(node, `forward/${name}/`).sort((a, b) => a.port - b.port);
  const draw = region(place, rows, (found) => table("Forwarded ports", [
    ["port inside", (row) => String(row.port)],
    ["here", (row) => (row.state === "ready" ? h("a", { href: `http://127.0.0.1:${Number(row.local)}/`, target: "_blank", rel: "noopener noreferrer" }, `127.0.0.1:${row.local}`) : `127.0.0.1:${row.local}`)],
    ["state", (row) => [state(row.state), " since ", since(row.since), row.reason && `: ${row.reason}`, row.hint && [" ", command(row.hint)]]],
    ["do", (row) => !isReadOnly && h("button", { type: "button", class: "small", "aria-label": `Stop forwarding ${row.port}`, onclick: () => post("unforward", { port: row.port }) }, "Stop")],
  ], found, "No port is forwarded in the background."));
  const port = h("input", { id: "forward-port", inputmode: "numeric", autocomplete: "off", size: 7 });
  const local = h("input", { id: "forward-local", inputmode: "numeric", autocomplete: "off", size: 7, "aria-describedby": "forward-about" });
  const begin = h("button", { type: "submit", class: "primary" }, "Forward it");
  const number = (input) => (/^[0-9]{1,5}$/.test(input.value.trim()) ? Number(input.value) : 0);
  const form = !isReadOnly && h("form", { class: "bar", novalidate: true, onsubmit: async (event) => {
    event.preventDefault();
    if (begin.disabled) return;
    if (!number(port) || (local.value.trim() && !number(local))) { say(new Error("a port is a number from 1 to 65535")); port.focus(); return; }
    begin.disabled = true;
    if (await post("forward", { port: number(port), local: number(local) })) { port.value = ""; local.value = ""; }
    begin.disabled = false;
  } }, h("label", { for: "forward-port" }, "Port inside "), port, h("label", { for: "forward-local" }, "port here "), local, begin);
  return [section("forwards", "Forwarded ports", form, problem,
    h("p", { class: "about", id: "forward-about" }, "A port here is one of 127.0.0.1 on the machine of these pages: the same number if it is free, unless you name another. Any process of that machine may use it. It stays when this page is left."), place), draw];
}
