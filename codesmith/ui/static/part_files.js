// Files of a workspace: look, download, upload, edit a text, make a directory, rename, remove. Nothing is read before
// somebody asks for it, since that starts the runtime.

import { ask } from "./rpc.js";
import { confirmDestroy, openDialog } from "./dialog.js";
import { editFile } from "./editor.js";
import { append, badge, change, h, isReadOnly, methodOf, section, table, time } from "./parts.js";
import { download, safeName, save, upload } from "./transfer.js";
import { bytes, line } from "./text.js";

const SHOWN = 200;
const nameOf = (path) => path.slice(path.lastIndexOf("/") + 1);
const joined = (folder, name) => (folder === "." ? name : `${folder}/${name}`);

export function filesPart(node, contract, name) {
  if (!methodOf(contract, "file.list")) return null;
  const place = h("div", {});
  const status = h("p", { role: "status" });
  const work = h("div", {});
  const entryOf = (method) => !isReadOnly && methodOf(contract, method);
  let folder = ".";
  let rows = [];
  let shown = SHOWN;
  let filter = "";
  let isLeft = false;
  const say = (text, kind = "") => { status.className = kind; status.replaceChildren(); append(status, [text]); };
  const fail = (error) => say([error.message, error.hint && ` ${error.hint}`].filter(Boolean).join(""), "problem");
  const call = (method, params) => change(node, methodOf(contract, method), { workspace: name, ...params });

  async function look(path, { focus = true } = {}) {
    if (path !== folder) filter = "";  // what is typed while the answer is on its way is of the new one
    try {
      const found = await ask(node, "file.list", { workspace: name, path });
      folder = path;
      rows = found;
      shown = SHOWN;
      say("");
      draw();
      if (focus) place.querySelector("h3")?.focus();
    } catch (error) { fail(error); }
  }
  const again = () => look(folder, { focus: false });

  function draw() {
    const parts = folder === "." ? [] : folder.split("/");
    const chosen = rows.filter((row) => nameOf(row.path).toLowerCase().includes(filter));
    const step = (text, path) => h("button", { type: "button", class: "link", onclick: () => look(path) }, text);
    const find = h("input", { type: "search", id: "files-filter", value: filter, autocomplete: "off", spellcheck: "false", oninput: () => { filter = find.value.toLowerCase(); shown = SHOWN; drawTable(); } });
    const list = h("div", {});
    const drawTable = () => {
      const now = rows.filter((row) => nameOf(row.path).toLowerCase().includes(filter));
      list.replaceChildren();
      append(list, [table("Files", [
        ["name", (row) => (row.type === "directory" || row.type === "link"
          ? h("button", { type: "button", class: "link", "aria-label": `Open ${line(nameOf(row.path))}`, onclick: () => look(row.path) }, nameOf(row.path), row.type === "directory" && "/") : nameOf(row.path))],
        ["type", (row) => [row.type, row.target !== null && row.target !== undefined && [" to ", h("span", { class: "value" }, row.target)]]],
        ["size", (row) => (row.type === "file" ? h("span", { title: `${row.size_bytes} bytes` }, bytes(row.size_bytes)) : ""), "number"],
        ["mode", (row) => h("code", {}, row.mode)],
        ["changed", (row) => time(row.modified_at)],
        ["do", (row) => h("span", { class: "row" }, buttons(row))],
      ], now.slice(0, shown), rows.length ? "No name matches." : "An empty directory."),
      now.length > shown && h("p", { class: "pager" }, h("button", { type: "button", onclick: () => { shown += SHOWN; drawTable(); } }, `Show more (${now.length - shown} are left)`))]);
    };
    drawTable();
    place.replaceChildren();
    append(place, [
      h("h3", { tabindex: -1 }, step("workspace", "."), parts.map((part, at) => [" / ", step(part, parts.slice(0, at + 1).join("/"))])),
      h("p", { class: "bar" }, h("label", { for: "files-filter" }, "Filter "), find, h("span", { class: "faint" }, `${chosen.length} entries`),
        h("button", { type: "button", onclick: again }, "Look again"), changes()),
      list]);
  }

  function buttons(row) {
    const label = line(nameOf(row.path));
    const one = (text, onclick, kind = "") => h("button", { type: "button", class: `small ${kind}`, "aria-label": `${text} ${label}`, onclick }, text);
    return [
      row.type === "file" && one("Download", () => downloadIt(row)),
      row.type === "file" && one(isReadOnly ? "Show" : "Edit", () => openEditor(row)),
      entryOf("file.move") && one("Rename", () => renameIt(row)),
      entryOf("file.remove") && one("Remove", () => removeIt(row), "danger"),
    ];
  }

  function changes() {
    if (!entryOf("file.write")) return null;
    const chooser = h("input", { type: "file", multiple: true, class: "hidden", id: "files-upload", tabindex: -1, "aria-hidden": "true", onchange: async () => {
      const files = [...chooser.files];
      chooser.value = "";
      const [to, there] = [folder, rows];  // somebody may browse meanwhile
      for (const file of files) await uploadIt(file, to, there);
    } });
    return [
      h("button", { type: "button", onclick: () => chooser.click() }, "Upload"), chooser,
      h("button", { type: "button", onclick: () => nameDialog("New directory", "", "Make it", (to) => call("file.make_directory", { path: joined(folder, to) })) }, "New directory"),
      h("button", { type: "button", onclick: () => nameDialog("New text file", "", "Go on", async (to) => openEditor({ path: joined(folder, to), isNew: true })) }, "New text file"),
    ];
  }

  // Something that takes a while: how far it is, and a button that stops it.
  function progress(what) {
    const bar = h("progress", { max: 1, "aria-label": line(what) });
    const text = h("span", { class: "faint" });
    const state = { isStopped: false };
    const element = h("p", { class: "bar" }, h("span", { class: "value" }, what), bar, text, h("button", { type: "button", onclick: () => { state.isStopped = true; } }, "Stop"));
    work.append(element);
    return {
      onProgress: (done, all) => { if (all) bar.value = done / all; text.textContent = `${bytes(done)} of ${bytes(all)}`; },
      isStopped: () => state.isStopped || isLeft, end: () => element.remove(),
    };
  }

  async function downloadIt(row) {
    const run = progress(`Download of ${nameOf(row.path)}`);
    try {
      const blob = await download(node, name, row.path, run);
      if (blob) { save(blob, safeName(nameOf(row.path))); say(`${nameOf(row.path)} was read whole: ${bytes(blob.size)}`); } else say("The download was stopped; nothing was saved.");
    } catch (error) { fail({ message: `${nameOf(row.path)}: ${error.message}`, hint: error.hint }); }
    run.end();
  }

  async function uploadIt(file, to, there) {
    const path = joined(to, file.name);
    const target = there.find((row) => row.path === path);
    if (!target) { await send(file, path, {}); return; }
    await new Promise((resolve) => {
      const dialog = confirmDestroy({
        title: `Replace ${file.name}`, name: line(file.name), verb: "Replace it", losses: [`what is in ${path} now: ${bytes(target.size_bytes)}, changed ${new Date(target.modified_at).toLocaleString()}`],
        onConfirm: () => { send(file, path, { replace: true, mode: target.type === "file" ? target.mode : undefined }).then(resolve); },
      });
      dialog.addEventListener("close", () => setTimeout(resolve, 0));
    });
  }

  async function send(file, path, { replace = false, mode }) {
    const run = progress(`Upload of ${file.name}`);
    try {
      const made = await upload(node, name, path, file, { ...run, replace, mode });
      if (made) { await again(); say(`${file.name} is there whole: ${bytes(file.size)}`); } else say("The upload was stopped; nothing was changed.");
    } catch (error) { fail({ message: `${file.name}: ${error.message}`, hint: error.hint }); }
    run.end();
  }

  function nameDialog(title, first, verb, onName) {
    const typed = h("input", { id: "files-name", autocomplete: "off", spellcheck: "false", value: first });
    const problem = h("p", { class: "problem", role: "alert", hidden: true });
    openDialog(title, (close) => h("form", { novalidate: true, onsubmit: async (event) => {
      event.preventDefault();
      problem.hidden = true;
      try {
        if (!typed.value) throw new Error("a name is missing");
        await onName(typed.value);
        close();
        if (onName.isOver !== false) await again();
      } catch (error) {
        problem.replaceChildren();
        append(problem, [error.data?.errors?.map((each) => `${each.field} ${each.problem}`).join("; ") || error.message, error.hint && ` ${error.hint}`]);
        problem.hidden = false;
        typed.focus();
      }
    } }, h("div", { class: "field" }, h("label", { for: "files-name" }, `Name in ${folder === "." ? "the workspace" : line(folder)}`), typed), problem,
    h("p", { class: "buttons" }, h("button", { type: "submit", class: "primary" }, verb), " ", h("button", { type: "button", onclick: close }, "Leave it"))));
    typed.focus();
  }

  const renameIt = (row) => nameDialog(`Rename ${nameOf(row.path)}`, nameOf(row.path), "Rename it", (to) => call("file.move", { path: row.path, new_path: joined(folder, to) }));

  function removeIt(row) {
    const isDirectory = row.type === "directory";
    confirmDestroy({
      title: `Remove ${nameOf(row.path)}`, name: line(nameOf(row.path)), verb: "Remove it",
      losses: [isDirectory ? `the directory ${row.path} with everything in it` : row.type === "link" ? `the link ${row.path}, not what it leads to` : `${row.path}: ${bytes(row.size_bytes)}`],
      onConfirm: async () => { await call("file.remove", { path: row.path, ...(isDirectory && { recursive: true }) }); await again(); },
    });
  }

  const openEditor = (row) => editFile({ node, name, contract, row, isReadOnly, place: work, onSaved: again, onFail: fail });

  const begin = h("p", {}, h("button", { type: "button", onclick: () => look(".") }, "Look at the files"), " ", badge("starts the runtime if it is stopped"));
  place.append(begin);
  const drawPart = () => {};
  drawPart.leave = () => { isLeft = true; };
  return [section("files", "Files", h("p", { class: "about" }, "Nothing is read before you ask for it."), status, place, work), drawPart];
}
