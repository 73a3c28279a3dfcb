// What a workspace has that would be lost with it: asked of the node when somebody is about to delete it.

import { append, h, live, methodOf } from "./parts.js";
import { ask, step } from "./rpc.js";
import { bytes, shellQuote } from "./text.js";

const REPOS_MAX = 50;
// One line for each repo below the workspace: changed files, commits that no remote has, whether it has one, its path.
const LOOK = `find . -maxdepth 5 -name .git -prune -print0 | head -z -n ${REPOS_MAX} | while IFS= read -r -d '' git; do
repo=\${git%/.git}
changed=$(git -C "$repo" status --porcelain 2>/dev/null | wc -l)
unpushed=$(git -C "$repo" rev-list --count --all --not --remotes 2>/dev/null || echo 0)
printf '%s %s %s %s\\0' "$changed" "$unpushed" "$(git -C "$repo" remote | wc -l)" "$repo"
done`;

export const many = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

function repoLine(text) {
  const found = /^([0-9]+) ([0-9]+) ([0-9]+) (.*)$/s.exec(text);
  if (!found) return null;
  const [, changed, unpushed, remotes, path] = found;
  const parts = [Number(unpushed) && `${many(Number(unpushed), "commit")} that no remote has`, Number(changed) && many(Number(changed), "changed file")].filter(Boolean);
  const about = parts.length ? parts.join(" and ") : "everything in it is pushed";
  return `${path.replace(/^\.\//, "")}: ${about}${Number(remotes) ? "" : "; it has no remote"}`;
}

// The jobs that run in it, in words.
export function jobsIn(node, name) {
  const jobs = live.all(node, `job/${name}/`).filter((job) => job.state === "running");
  const titles = jobs.slice(0, 5).map((job) => job.name ?? job.argv.map(shellQuote).join(" ")).join(", ");
  return jobs.length ? `${many(jobs.length, "running job")}: ${titles}${jobs.length > 5 ? " and more" : ""}` : "no running job";
}

// List items that fill themselves. What runs is looked at; for a stopped workspace there is a button.
export function lossesOf(node, contract, name, row) {
  const size = h("li", {}, "measuring its files");
  const repos = h("li", {});
  const set = (place, ...content) => { place.replaceChildren(); append(place, content); };

  const measure = async () => {
    try {
      const usage = await ask(node, "workspace.usage", { name });
      set(size, usage.disk_bytes === null ? "more files than can be counted" : `${bytes(usage.disk_bytes)} in ${usage.files} files and directories`);
    } catch (error) { set(size, `its files were not measured: ${error.message}`); }
  };
  const look = async () => {
    set(repos, "looking at its repos");
    try {
      const done = await step(node, "workspace.exec", { name, argv: ["bash", "-c", LOOK], timeout_s: 20 });
      const lines = done.stdout.split("\0").map(repoLine).filter(Boolean);
      if (done.killed_by || done.exit_code !== 0) throw new Error(done.stderr.slice(0, 200) || `exit ${done.exit_code}`);
      set(repos, lines.length ? ["its repos: ", h("ul", {}, lines.map((one) => h("li", {}, one))), lines.length >= REPOS_MAX && "and maybe more"] : "no git repo was found in it");
    } catch (error) { set(repos, `its repos were not looked at: ${error.message}`); }
  };
  if (methodOf(contract, "workspace.usage")) measure();
  else set(size, "its files");
  if (row?.runtime?.state === "running") look();
  else {
    set(repos, "Unpushed commits and changed files were not looked at: the workspace is stopped. ",
      h("button", { type: "button", class: "small", onclick: look }, "Start it and look"));
  }
  return [size, repos, h("li", {}, jobsIn(node, name))];
}
