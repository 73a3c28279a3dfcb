// Create a workspace, with all that the contract takes.

import { command, goTo, h, isReadOnly, methodForm, methodOf, outage, path, prose, section, change, withContract } from "./parts.js";

export function createPage(name) {
  const [down, draw] = outage(name);
  const element = h("div", {}, down, isReadOnly ? h("p", {}, "These pages are read-only.") : withContract(name, (contract) => {
    const entry = methodOf(contract, "workspace.create");
    const { form } = methodForm({
      contract, entry, key: `${name}/workspace.create/{}`, submit: "Create the workspace",
      onSubmit: async (params) => {
        const made = await change(name, entry, params);
        goTo("nodes", name, "workspaces", made.name);
      },
    });
    return section("create", `A workspace on ${name}`, prose(entry.description), form, h("p", { class: "faint" }, "On a command line: ", command(`inv workspace.create NAME --node ${name}`)));
  }));
  return { title: "Create a workspace", view: { node: name }, trail: [[path("nodes", name), name]], element, draw };
}
