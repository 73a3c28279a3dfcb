// The way in, the frame of all pages, and which page an address means.

import { enter } from "./access.js";
import { append, command, growOlder, h, link, path } from "./dom.js";
import { hasUnsaved } from "./editor.js";
import * as live from "./live.js";
import * as notices from "./notices.js";
import { apiPage } from "./page_api.js";
import { createPage } from "./page_create.js";
import { fleetPage } from "./page_fleet.js";
import { nodePage } from "./page_node.js";
import { userPage } from "./page_user.js";
import { workspacePage } from "./page_workspace.js";
import { resume } from "./rpc.js";

const PAGES = [
  [/^\/$/, fleetPage],
  [/^\/nodes\/([^/]+)$/, nodePage],
  [/^\/nodes\/([^/]+)\/create$/, createPage],
  [/^\/nodes\/([^/]+)\/workspaces\/([^/]+)$/, workspacePage],
  [/^\/nodes\/([^/]+)\/users\/([^/]+)$/, userPage],
  [/^\/nodes\/([^/]+)\/api(?:\/([^/]+))?$/, apiPage],
];

const main = document.getElementById("main");
let leave = () => {};

function show({ isFirst }) {
  leave();
  main.replaceChildren();
  const [make, parts] = chosen();
  const page = make ? make(...parts) : { title: "No such page", trail: [], element: h("p", {}, "There is no page at this address. ", link("/", "All nodes")) };
  const heading = h("h1", { tabindex: -1 }, page.title);
  document.title = `${heading.textContent} · CodeSmith`;
  const trail = document.getElementById("trail");
  trail.replaceChildren();
  append(trail, [link("/", "Nodes"), (page.trail ?? []).map(([href, text]) => [" / ", link(href, text)])]);
  append(main, [heading, page.element]);
  live.watch(page.view ?? {});
  const draw = () => page.draw?.();
  const stop = live.onChange(draw);
  const clock = setInterval(growOlder, 1000);
  leave = () => { stop(); clearInterval(clock); page.leave?.(); };
  draw();
  if (!isFirst) { heading.focus(); window.scrollTo(0, 0); }
}

function chosen() {
  for (const [pattern, page] of PAGES) {
    const found = pattern.exec(location.pathname);
    if (found) {
      try { return [page, found.slice(1).filter((one) => one !== undefined).map(decodeURIComponent)]; } catch { return []; }
    }
  }
  return [];
}

let shownAt = location.href;
const mayLeave = () => !hasUnsaved() || window.confirm("A text that you changed is not saved. Leave it?");

function goTo(address) {
  history.pushState(null, "", address);
  shownAt = location.href;
  show({});
}

export const go = (...parts) => goTo(path(...parts));

document.addEventListener("click", (event) => {
  const anchor = event.target.closest?.("a[href]");
  if (!anchor || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  if (anchor.origin !== location.origin || anchor.target || anchor.getAttribute("href").startsWith("#")) return;
  event.preventDefault();
  if (mayLeave()) goTo(anchor.href);
});
const withoutHash = (address) => address.split("#")[0];
window.addEventListener("popstate", () => {
  if (withoutHash(location.href) === withoutHash(shownAt)) return;  // a place in the page that is shown
  if (!mayLeave()) { history.pushState(null, "", shownAt); return; }
  shownAt = location.href;
  show({ isFirst: true });
});
window.addEventListener("codesmith-go", (event) => go(...event.detail));

live.onConnection(({ state, since, error }) => {
  const place = document.getElementById("live");
  place.className = `live ${state}`;
  place.replaceChildren();
  const text = {
    live: ["live"],
    lost: ["the server of these pages does not answer since ", since?.toLocaleTimeString(), "; trying again"],
    refused: [error?.message, "; trying again"],
  }[state];
  if (state === "closed") closed(error);
  else append(place, text);
});

function closed(error) {
  leave();
  leave = () => {};
  main.replaceChildren();
  append(main, [h("h1", {}, "No access"), h("p", {}, error.message, "."), h("p", {}, "Open the pages with ", command("inv ui.open"))]);
}

notices.start(document.getElementById("notices"));
try {
  await enter();
  show({ isFirst: true });
  resume();
} catch (error) {
  closed(error);
}
