// One user: its account, keys and workspaces.

import { ask } from "./rpc.js";
import { record } from "./record.js";
import { append, auditPart, h, isReadOnly, link, live, methodBox, otherMethods, outage, path, region, section, state, withContract } from "./parts.js";

const PLACED = new Set(["user.create", "user.get", "user.list", "user.set_keys", "user.disable", "user.enable", "user.delete", "workspace.create", "workspace.list", "workspace.assign", "audit.list"]);

export function userPage(node, name) {
  const [down, drawDown] = outage(node);
  const [audit, drawAudit] = auditPart(node, { user: name });
  const about = h("div", {});
  const drift = h("div", {});
  let seen;
  const one = () => live.get(node, `user/${name}`);
  const drawAbout = region(about, () => one() ?? null, (user) => (user
    ? record(user, { replace: { state: state(user.state), workspaces: user.workspaces.map((each) => [link(path("nodes", node, "workspaces", each), each), " "]) } })
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
  const methods = withContract(node, (contract) => [
    section("keys", "SSH keys", methodBox({ node, contract, name: "user.set_keys", fixed: { name }, title: "Replace all keys", submit: "Replace all keys" })),
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
  return { title: name, view: { node }, trail: [[path("nodes", node), node], [path("nodes", node, "users", name), name]], element, draw: () => { drawDown(); drawAbout(); drawAudit(); look(); } };
}
