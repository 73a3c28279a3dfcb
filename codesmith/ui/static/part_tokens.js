// Tokens of a workspace, for an AI agent or a CI job. This page makes the secret, shows it once and writes it down nowhere;
// the node gets its SHA-256.

import { answerOf } from "./access.js";
import { confirmDestroy } from "./dialog.js";
import { copier } from "./dom.js";
import { methodForm } from "./forms.js";
import { append, badge, change, code, command, h, isReadOnly, live, methodOf, region, section, table, time } from "./parts.js";
import { line, shellQuote } from "./text.js";
import { save } from "./transfer.js";

const titleOf = (token) => token.label || token.id;
const hex = (bytes) => Array.from(new Uint8Array(bytes), (one) => one.toString(16).padStart(2, "0")).join("");

async function makeSecret() {
  const text = hex(crypto.getRandomValues(new Uint8Array(32)));
  return { text, sha256: hex(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text))) };
}

export function tokensPart(node, contract, name) {
  if (!methodOf(contract, "token.list")) return null;
  const place = h("div", { tabindex: -1 });
  const secrets = h("div", {});
  const revoke = !isReadOnly && methodOf(contract, "token.revoke");
  const isExpired = ({ expires_at: at }) => at !== null && Date.parse(at) <= Date.now();
  const rows = () => live.all(node, `token/${name}/`).sort((a, b) => (a.created_at < b.created_at ? 1 : -1)).map((token) => ({ ...token, isExpired: isExpired(token) }));
  const draw = region(place, rows, (found) => table("Tokens", [
    ["token", (token) => [titleOf(token), token.label && h("span", { class: "faint" }, ` ${token.id}`)]],
    ["reaches", (token) => token.preset ?? token.methods.map((method) => [code(method), " "])],
    ["expires", (token) => (token.expires_at ? [time(token.expires_at), token.isExpired && [" ", badge("expired", "warn")]] : "when it is revoked")],
    ["last used", (token) => time(token.last_used_at)],
    ["created", (token) => [time(token.created_at), ` by ${token.by}`]],
    ...(revoke ? [["do", (token) => h("button", { type: "button", class: "small danger", "data-key": `revoke ${token.id}`, "aria-label": `Revoke ${line(titleOf(token))}`, onclick: () => revokeIt(node, revoke, token) }, "Revoke")]] : []),
  ], found, ["No tokens. On a command line: ", command(`inv token.create ${name} --expires 8h --endpoint --node ${node}`)]));
  const entry = !isReadOnly && methodOf(contract, "token.create");
  return [section("tokens", "Tokens",
    h("p", { class: "about" }, "Whoever shows the secret of a token reaches this workspace and nothing else of the node: for an AI agent or a CI job."),
    place, secrets, entry && createBox(node, contract, entry, name, secrets)), draw];
}

function createBox(node, contract, entry, name, secrets) {
  const place = h("div", {});
  const begin = () => {
    place.replaceChildren(methodForm({
      contract, entry, fixed: { workspace: name }, prefill: { preset: "work", expires_at: "8h" }, leave: ["token_sha256"], key: `${node}/token.create/${name}`, submit: "Create the token",
      onSubmit: async (params) => {
        const secret = await makeSecret();
        if (params.methods) delete params.preset; // they are in its place
        // Private: sent again after a reload it would be a token whose secret nobody has.
        const made = await change(node, entry, { ...params, token_sha256: secret.sha256 }, { isPrivate: true });
        showSecret(node, name, made, params.label || made.id, secret.text, secrets);
        setTimeout(begin, 0);
      },
    }).form);
  };
  begin();
  return h("details", {}, h("summary", {}, "Create a token"), h("p", { class: "about" }, "The secret is made here: the node never sees it."), place);
}

function showSecret(node, name, made, title, secret, secrets) {
  const file = `${made.id}.token`;
  const shown = h("input", { type: "text", readonly: true, class: "secret", value: secret, "aria-label": `Secret of ${line(title)}`, autocomplete: "off", spellcheck: "false", onfocus: () => shown.select() });
  const use = h("div", { role: "status" }, h("p", { class: "faint" }, "Opening the endpoint"));
  const heading = h("h3", { tabindex: -1 }, `The secret of ${line(title)}`);
  const panel = h("div", { class: "output" }, heading,
    h("p", { class: "notice warn" }, "It is shown once and written down nowhere. Save it now; a lost one is revoked and made anew."),
    h("p", { class: "bar" }, shown, copier(secret, "Copy the secret"),
      h("button", { type: "button", onclick: () => save(new Blob([`${secret}\n`], { type: "application/octet-stream" }), file) }, "Save as a file")),
    h("p", {}, "Into a file that only its reader may read: ", command(`(umask 077; cat > ${file})`), ", paste it, Enter, Ctrl-D. Or once it is saved: ", command(`chmod 600 ${file}`)), use,
    h("p", { class: "buttons" }, h("button", { type: "button", onclick: () => { shown.value = ""; panel.remove(); } }, "Done: hide it")));
  secrets.prepend(panel);
  heading.focus();
  tellUse(node, name, made, file, use);
}

// How it is used: what its holder needs is this machine's socket that takes only tokens, and the file.
async function tellUse(node, name, { scope }, file, place) {
  let content;
  try {
    const { endpoint } = await answerOf(`/nodes/${encodeURIComponent(node)}/scoped`, {});
    content = [
      h("p", {}, "Its holder needs that file and a socket of the machine of these pages: ", command(`export CODESMITH_ENDPOINT=${shellQuote(endpoint)} CODESMITH_TOKEN_FILE=$PWD/${file}`)),
      scope.preset && h("p", {}, "Then an AI agent gets the workspace by MCP: ", command(`codesmith mcp.serve ${name}${scope.preset === "read" ? " --read-only" : ""}`)),
      scope.methods.includes("workspace.get") && h("p", {}, "And to see that it works: ", command(`codesmith workspace.get ${name}`)),
    ];
  } catch (error) {
    content = [h("p", { class: "problem" }, `The token is there, the endpoint is not: ${error.message} ${error.hint ?? ""}`)];
  }
  place.replaceChildren();
  append(place, content);
}

function revokeIt(node, entry, token) {
  confirmDestroy({
    title: `Revoke ${titleOf(token)} (${token.id})`, intro: "This would end:", name: line(titleOf(token)), verb: "Revoke the token",
    losses: ["that whoever has its secret is let in", "streams that were opened with it, at once, and commands that run in them", "no job: those that it started go on, stop them above"],
    onConfirm: () => change(node, entry, { id: token.id }),
  });
}
