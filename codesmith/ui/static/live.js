// What the server tells, as it changes: values by node and key. A lost server is said, and asked again.

import { send } from "./access.js";

const SILENCE_MS = 10000;
const state = new Map();
const listeners = new Set();
let view = null;
let controller = null;
let isQueued = false;
let page = null;
let waiters = [];
const outputs = new Map();

export const EVERYWHERE = "";
export const get = (place, key) => state.get(place)?.get(key);
export const nodeNames = () => [...state.keys()].filter((name) => name !== EVERYWHERE);

// The values of a place whose keys begin with a prefix, by the rest of the key.
export function all(place, prefix) {
  const found = [];
  for (const [key, value] of state.get(place) ?? []) if (key.startsWith(prefix)) found.push(value);
  return found;
}

export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function notify() {
  if (isQueued) return;
  isQueued = true;
  // A timer and no frame: a page in the background is up to date, too.
  setTimeout(() => { isQueued = false; for (const listener of [...listeners]) listener(); }, 16);
}

// Show another view from now on: {node?, workspace?}.
export function watch(wanted) {
  if (JSON.stringify(wanted) === JSON.stringify(view)) return;
  view = wanted;
  if (controller) controller.abort();
  else run();
}

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
let said = () => {};
export const onConnection = (listener) => { said = listener; };

async function run() {
  let failures = 0;
  let lostSince = null;
  for (;;) {
    controller = new AbortController();
    const wanted = view;
    loseOutputs();
    try {
      await read(await send("/events", wanted, controller.signal), () => {
        failures = 0;
        lostSince = null;
        said({ state: "live" });
      });
      if (view === wanted) throw new Error("the stream ended");
    } catch (error) {
      loseOutputs();
      if (view !== wanted) continue;
      if (error.status === 401) { said({ state: "closed", error }); return; }
      failures += 1;
      lostSince ??= new Date();
      said({ state: error.status ? "refused" : "lost", since: lostSince, error });
      await pause(Math.min(500 * failures, 3000));
    }
  }
}

async function read(response, onSign) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const mine = controller;
  let rest = "";
  for (;;) {
    const timer = setTimeout(() => mine.abort(new Error("silence")), SILENCE_MS);
    const { done, value } = await reader.read().finally(() => clearTimeout(timer));
    if (done) return;
    onSign();
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) take(part);
  }
}

// What this page has going at the server belongs to its stream; the server ends it with that.
export const pageId = () => (page ? Promise.resolve(page) : new Promise((resolve) => { waiters.push(resolve); }));

// Hear what a command or log of this page writes: {kind, data}; also "lost", when the stream of the page broke off.
export function onOutput(name, listener) {
  outputs.set(name, listener);
  return () => outputs.delete(name);
}

function loseOutputs() {
  page = null;
  const lost = [...outputs.values()];
  outputs.clear();
  for (const listener of lost) listener({ kind: "lost", data: { problem: "the connection to the server of these pages was lost", hint: "" } });
}

function take(part) {
  const name = /^event: (.*)$/m.exec(part)?.[1];
  const data = /^data: (.*)$/m.exec(part)?.[1];
  if (name === "begin") {
    state.clear();
    page = JSON.parse(data).page;
    for (const resolve of waiters.splice(0)) resolve(page);
  }
  if (name === "output") {
    const one = JSON.parse(data);
    outputs.get(one.output)?.(one);
  }
  if (name !== "change" || data === undefined) return;
  const { node, set, gone } = JSON.parse(data);
  const values = state.get(node) ?? state.set(node, new Map()).get(node);
  for (const key of gone) values.delete(key);
  for (const [key, value] of Object.entries(set)) values.set(key, value);
  if (!values.size) state.delete(node);
  notify();
}
