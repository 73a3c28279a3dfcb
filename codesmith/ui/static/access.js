// The page's secret: got once for a one-time token, kept for this tab, sent as a header, never as a cookie.

const KEY = "codesmith-secret";
const HEADER = "CodeSmith-UI";
// Tabs of the same origin only: another port is another origin.
const tabs = new BroadcastChannel("codesmith-access");
tabs.onmessage = ({ data }) => {
  const secret = sessionStorage.getItem(KEY);
  if (data?.ask && secret) tabs.postMessage({ secret });
};

export class Refused extends Error {
  constructor(status, error) {
    super(error?.problem ?? `HTTP ${status}`);
    this.status = status;
    this.hint = error?.hint ?? "";
    this.data = error?.data ?? {};
  }
}

// Return once the page has access; Refused if it gets none.
export async function enter() {
  const token = /^#enter=([A-Za-z0-9_-]+)$/.exec(location.hash)?.[1];
  if (token) {
    history.replaceState(null, "", location.pathname);
    const answer = await send("/enter", { token });
    sessionStorage.setItem(KEY, (await answer.json()).secret);
  }
  if (!sessionStorage.getItem(KEY)) {
    const secret = await askTabs();
    if (!secret) throw new Refused(401, { problem: "this page has no access", hint: "inv ui.open" });
    sessionStorage.setItem(KEY, secret);
  }
}

function askTabs() {
  return new Promise((resolve) => {
    const hear = ({ data }) => { if (typeof data?.secret === "string") resolve(data.secret); };
    tabs.addEventListener("message", hear, { once: true });
    tabs.postMessage({ ask: true });
    setTimeout(() => resolve(null), 400);
  });
}

// POST JSON and return the response; Refused for every status that is no success.
export async function send(path, body, signal, more) {
  const headers = { "Content-Type": "application/json" };
  const secret = sessionStorage.getItem(KEY);
  if (secret && path !== "/enter") headers[HEADER] = secret;
  const response = await fetch(path, {
    method: "POST", headers, body: JSON.stringify(body), signal, credentials: "omit", mode: "same-origin", redirect: "error", cache: "no-store", ...more,
  });
  if (response.ok) return response;
  let error = null;
  try { ({ error } = await response.json()); } catch { /* no JSON: the status says enough */ }
  throw new Refused(response.status, error);
}

// POST JSON and return the answer; Refused also for what the agent refuses, which comes as an answer.
export async function answerOf(path, body) {
  const response = await send(path, body);
  const answer = await response.json();
  if (answer.error) throw new Refused(response.status, answer.error);
  return answer;
}
