// Calls of a node's methods. A change carries a request id and is remembered until it is answered: after a reload or a
// lost server it is sent again under the same id, and the node does nothing twice.

import { Refused, send } from "./access.js";

const KEY = "codesmith-pending";
// A small request that is under way is carried out though its page is left.
const KEPT_ALIVE_MAX = 16 << 10;
export const SECRETS = new Set(["credential", "password", "token", "ssh_key"]);

export class RpcError extends Error {
  constructor({ code, message, data }) {
    super(message);
    this.code = code;
    this.data = data ?? {};
    this.hint = this.data.hint ?? "";
  }
}

const contracts = new Map();

// The node's own contract; read again when another agent answers.
export async function contractOf(node, version = "") {
  const known = contracts.get(node);
  if (known && known.version === version) return known.contract;
  const contract = await ask(node, "rpc.discover", {});
  contracts.set(node, { version, contract });
  return contract;
}

export const methodOf = (contract, name) => contract?.methods.find((one) => one.name === name);
export const takes = (entry, name) => Boolean(entry?.params.some((param) => param.name === name));

let numbers = 0;

async function once(node, method, params, more) {
  numbers += 1;
  const request = { jsonrpc: "2.0", id: numbers, method, params };
  const answer = await (await send(`/nodes/${encodeURIComponent(node)}/rpc`, request, undefined, more)).json();
  if (answer.error) throw new RpcError(answer.error);
  return answer.result;
}

const isLost = (error) => !(error instanceof RpcError) && !(error instanceof Refused);
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

// Call a method that changes nothing; asked again if the browser lost the connection.
export async function ask(node, method, params) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await once(node, method, params);
    } catch (error) {
      if (!isLost(error) || attempt === 4) throw error;
      await pause(250 * attempt);
    }
  }
}

// Make one change that is a part of a longer work, which says how it goes itself: sent again under its request id if
// the browser lost the connection, and not remembered.
export async function step(node, method, params) {
  const given = { ...params, request_id: crypto.randomUUID() };
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await once(node, method, given, { keepalive: attempt === 1 && JSON.stringify(given).length < KEPT_ALIVE_MAX });
    } catch (error) {
      if (!isLost(error) || attempt === 6) throw error;
      await pause(300 * attempt);
    }
  }
}

const listeners = new Set();
// Hear of changes: {id, node, method, params, state: under way | done | refused | lost, result?, error?}.
// What was told before is told again: a part of a page may be made later than the answer came.
const told = new Map();
const TOLD_MAX = 30;
export function onCall(listener) {
  listeners.add(listener);
  for (const row of [...told.values()]) listener(row);
  return () => listeners.delete(listener);
}

function tell(row) {
  told.set(row.id, row);
  if (told.size > TOLD_MAX) told.delete(told.keys().next().value);
  for (const listener of [...listeners]) listener(row);
}

const remembered = () => JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
const remember = (rows) => sessionStorage.setItem(KEY, JSON.stringify(rows));

function hasSecret(value) {
  return Boolean(value) && typeof value === "object" && Object.entries(value).some(([name, inner]) => SECRETS.has(name) || hasSecret(inner));
}

// Call a method that may change something; the answer comes here, and to all that hear of calls.
// `isSaid` is for a caller that shows no error itself, `isPrivate` for what must not be written down.
export async function change(node, entry, params, { isSaid = false, isPrivate = false } = {}) {
  if (!entry["x-mutates"]) return ask(node, entry.name, params);
  const id = crypto.randomUUID();
  const given = takes(entry, "request_id") && !params.request_id ? { ...params, request_id: id } : params;
  const row = { id, node, method: entry.name, params: given, isSaid, at: Date.now() };
  // A secret is not written down, so a call with one is not repeated by the page.
  if (given.request_id && !isPrivate && !hasSecret(given)) remember([...remembered(), row]);
  return carryOut(row, false);
}

async function carryOut(row, isAgain) {
  tell({ ...row, state: "under way", isAgain });
  for (let attempt = 0; ; attempt += 1) {
    try {
      const result = await once(row.node, row.method, row.params);
      forget(row);
      tell({ ...row, state: "done", result, isAgain });
      return result;
    } catch (error) {
      if (isLost(error) && row.params.request_id && attempt < 30) {
        tell({ ...row, state: "lost", error, isAgain });
        await pause(attempt ? 2000 : 300);
        continue;
      }
      forget(row);
      tell({ ...row, state: "refused", error, isAgain });
      throw error;
    }
  }
}

function forget(row) {
  remember(remembered().filter((one) => one.id !== row.id));
}

// Send again what was under way when the page was left.
export function resume() {
  for (const row of remembered()) carryOut(row, true).catch(() => {});
}

// Start work that is no call: plan, prepare, doctor, logs.
export async function act(kind, nodes) {
  return (await (await send("/actions", { kind, nodes })).json()).ids;
}
