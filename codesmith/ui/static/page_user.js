// One user: its account, keys and workspaces.

import { ask } from "./rpc.js";
import { record } from "./record.js";
import { line } from "./text.js";
import { append, auditPart, change, code, confirmDestroy, h, isReadOnly, link, live, methodBox, methodOf, otherMethods, outage, path, region, section, state, table, withContract } from "./parts.js";

const PLACED = new Set(["user.create", "user.get", "user.list", "user.add_keys", "user.remove_keys", "user.set_keys", "user.disable", "user.enable", "user.delete", "workspace.create", "workspace.list", "workspace.assign", "workspace.share", "workspace.unshare", "audit.list"]);

export function userPage(node, name) {
  const [down, drawDown] = outage(node);
  const [audit, drawAudit] = auditPart(node, { user: name });
  const about = h("div", {});
  const drift = h("div", {});
  let seen;
  const one = () => live.get(node, `user/${name}`);
  const links = (names) => (names.length ? names.map((each) => [link(path("nodes", node, "workspaces", each), each), " "]) : h("span", { class: "faint" }, "none"));
  const shared = () => live.all(node, "workspace/").filter((row) => row.shared_with?.includes(name)).map((row) => row.name);
  const drawAbout = region(about, () => (one() ? { ...one(), shared_with_it: shared() } : null), (user) => (user
    ? record(user, { leave: ["ssh_keys"], replace: { state: state(user.state), workspaces: links(user.workspaces), shared_with_it: links(user.shared_with_it) } })
    : live.get(node, "info") && h("p", { class: "notice warn" }, `No user ${name} on ${node} (any more).`)));
  // How the account differs from what CodeSmith made is asked for when the user changed: it costs a look at the account.
  const look = async () => {
    const now = JSON.stringify(one());
    if (now === seen || !one()) return;
    seen = now;
    try {
      const { drift: found } = await ask(node, "user.get", { name });
      drift.replaceChildren();
      append(drift, [found?.length ? h("div", { class: "notice warn" }, "The account was changed by others:", h("ul", {}, found.map((each) => h("li", {}, each)))) : null]);
    } catch { /* the node's outage is on the page */ }
  };
  const later = [];
  const methods = withContract(node, (contract) => [
    keysPart(node, contract, name, one, later),
    !isReadOnly && section("state", "State",
      methodBox({ node, contract, name: "user.disable", fixed: { name }, title: "Disable", submit: "Disable the user" }),
      methodBox({ node, contract, name: "user.enable", fixed: { name }, title: "Enable", submit: "Enable the user" }),
      methodBox({ node, contract, name: "user.delete", fixed: { name }, title: "Delete", submit: "Delete the user", losses: () => [
        `the account ${one()?.login ?? name}`, ...(one()?.home?.startsWith("/srv/codesmith/home/") ? [`its home ${one().home} with all files`] : []), `its ${one()?.ssh_keys.length ?? 0} keys`,
        one()?.workspaces.length ? `it is refused while the user owns ${one().workspaces.join(", ")}` : "it owns no workspaces",
      ] })),
    otherMethods({ node, contract, prefix: "user", param: "user", value: name, placed: PLACED }),
  ]);
  const element = h("div", {}, down, about, drift, methods, audit);
  return { title: name, view: { node }, trail: [[path("nodes", node), node], [path("nodes", node, "users", name), name]], element, draw: () => { drawDown(); drawAbout(); drawAudit(); look(); later.forEach((draw) => draw()); } };
}

function keysPart(node, contract, name, one, later) {
  const place = h("div", { tabindex: -1 });
  const remove = !isReadOnly && methodOf(contract, "user.remove_keys");
  const removeIt = ({ fingerprint, comment }) => h("button", { type: "button", class: "small danger", "data-key": fingerprint, "aria-label": `Remove ${line(comment || fingerprint)}`, onclick: () => confirmDestroy({
    title: `Remove ${comment || fingerprint}`, intro: "This would end:", name, verb: "Remove the key",
    losses: [`that ${name} may come in with ${fingerprint}; sessions that are open go on`, ...(one()?.ssh_keys.length === 1 ? ["it is the last key"] : [])],
    onConfirm: () => change(node, remove, { name, fingerprints: [fingerprint] }),
  }) }, "Remove");
  const draw = region(place, () => one()?.ssh_keys ?? [], (keys) => table("SSH keys", [
    ["key", (key) => code(key.fingerprint)], ["type", (key) => key.type], ["comment", (key) => key.comment], ...(remove ? [["do", removeIt]] : []),
  ], keys, "No keys."));
  later.push(draw);
  draw();
  return section("keys", "SSH keys", place,
    methodBox({ node, contract, name: "user.add_keys", fixed: { name }, title: "Add keys", submit: "Add the keys", after: () => null }),
    methodBox({ node, contract, name: "user.set_keys", fixed: { name }, title: "Replace all keys", submit: "Replace all keys", after: () => null }));
}
