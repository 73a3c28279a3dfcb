// Who may enter a workspace: its owner and those with whom it is shared, each with the keys of that user.

import { confirmDestroy } from "./dialog.js";
import { jobsIn, many } from "./losses.js";
import { line } from "./text.js";
import { change, code, h, isReadOnly, link, live, methodOf, path, region, section, state, table } from "./parts.js";

export function usersPart(node, contract, name, one, box) {
  const place = h("div", { tabindex: -1 });
  const unshare = !isReadOnly && methodOf(contract, "workspace.unshare");
  const known = (user) => live.get(node, `user/${user}`);
  const rows = () => {
    const row = one();
    return row ? [row.user, ...row.shared_with ?? []].map((user, at) => ({ user, isOwner: at === 0, state: known(user)?.state, login: known(user)?.login, keys: known(user)?.ssh_keys ?? [] })) : [];
  };
  const endSharing = ({ user }) => h("button", { type: "button", class: "small danger", "data-key": `unshare ${user}`, "aria-label": `End sharing with ${line(user)}`, onclick: () => confirmDestroy({
    title: `End sharing ${name} with ${user}`, intro: "This would end:", name: user, verb: "End sharing",
    losses: [`that ${user} may enter it`, runningIn(node, name, one())],
    onConfirm: () => change(node, unshare, { name, user }),
  }) }, "End sharing");
  const drawTable = region(place, rows, (found) => table("Who may enter", [
    ["user", ({ user }) => link(path("nodes", node, "users", user), user)],
    ["as", ({ isOwner }) => (isOwner ? "owner" : "shared with")],
    ["state", (row) => state(row.state)],
    ["login", ({ login }) => login && code(login)],
    ["keys", ({ keys }) => (keys.length ? h("ul", { class: "plain" }, keys.map((key) => h("li", {}, `${key.type} `, code(key.fingerprint), ` ${key.comment}`))) : h("span", { class: "faint" }, "none"))],
    ...(unshare ? [["do", (row) => !row.isOwner && endSharing(row)]] : []),
  ], found, "Not known yet."));

  const suggested = h("datalist", { id: "users-suggested" });
  const drawSuggested = region(suggested, () => live.all(node, "user/").filter((user) => user.state === "active" && user.name !== one()?.user).map((user) => user.name),
    (names) => names.map((user) => h("option", { value: user })));
  const lists = { user: suggested.id };
  const tokens = () => live.all(node, `token/${name}/`).map((token) => token.label || token.id);
  return [section("users", "Who may enter", place, suggested,
    h("p", { class: "about" }, "Whoever has one of these keys comes in by ssh, as the login beside it, if the node's checks say that its door is open; inside, all work as the workspace's one login. Keys are added and removed on the page of their user. Operators of the node may enter too."),
    box(contract, "workspace.share", { title: "Share it with a user", submit: "Share it", lists, after: ({ shared_with: users }) => `It is shared with ${users.join(", ")}.` }),
    box(contract, "workspace.assign", {
      title: "Give it to another user", submit: "Transfer the workspace", verb: "Transfer it", intro: "This would end:", lists,
      losses: ({ user }) => [
        one()?.user === user ? `nothing: ${user} owns it` : `that ${one()?.user} may enter it; ${user} owns it then`,
        runningIn(node, name, one()),
        tokens().length ? `${many(tokens().length, "token")} of it: ${tokens().join(", ")}` : "no token: it has none",
        "nothing else: its files stay, and those with whom it is shared may still enter it",
      ],
      after: ({ user }) => `It belongs to ${user}.`,
    })), () => { drawTable(); drawSuggested(); }];
}

const runningIn = (node, name, row) => (row?.runtime?.state === "stopped" ? "nothing that runs: it is stopped" : `all that runs in it now, whoever started it; ${jobsIn(node, name)}`);
