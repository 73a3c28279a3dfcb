// Commands that run for this page, and logs that it follows: what they write comes with the page's own events.

import { answerOf, send } from "./access.js";
import { get, onOutput, pageId } from "./live.js";
import { bytes } from "./text.js";

const RETRY_MS = 700;
const name = () => crypto.randomUUID();
const url = (node, what) => `/nodes/${encodeURIComponent(node)}/${what}`;

export function decodeBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  const found = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at += 1) found[at] = binary.charCodeAt(at);
  return found;
}

// Writes the bytes of both streams into a log view; a character may come in two pieces.
function writer(view) {
  const decoders = new Map();
  return ({ kind, data }) => {
    const decoder = decoders.get(kind) ?? decoders.set(kind, new TextDecoder()).get(kind);
    const piece = decodeBase64(data);
    view.write(kind, decoder.decode(piece, { stream: true }));
    return piece.length;
  };
}

// Hear one output to its end. `onEnd` gets {kind: end | refused | lost, data}; `onPiece` each piece, and its bytes.
async function open(node, what, params, view, { onEnd, onPiece = () => {}, write = writer(view) }) {
  const output = name();
  const page = await pageId();
  const off = onOutput(output, (one) => {
    if (one.kind === "stdout" || one.kind === "stderr") { onPiece(one, write(one)); return; }
    off();
    onEnd(one);
  });
  try {
    const answer = await answerOf(url(node, what), { ...params, page, output });
    return { answer, close: () => { off(); send("/outputs/end", { page, output }).catch(() => {}); } };
  } catch (error) {
    off();
    throw error;
  }
}

// Run a command that ends with this page. Returns {job, close}; the agent's refusal is thrown.
export async function runCommand(node, params, view, onEnd) {
  const { answer, close } = await open(node, "exec", params, view, { onEnd: (one) => { view.finish(); onEnd(one); } });
  return { job: answer.job, close };
}

// Read a job's output from its beginning, and what it writes. After a lost connection it reads on where it stopped,
// as long as `mayReadOn`: it must start nothing by itself. `onState` hears reading, lost, refused, or {kind: end, data}.
export function followJob(node, workspace, id, view, { mayReadOn, onState }) {
  let offset = 0;
  let current = null;
  let isLeft = false;
  const write = writer(view);
  const onPiece = (one, size) => {
    if (one.offset === null || one.offset === undefined) { offset += size; return; }
    offset = one.offset;
  };
  const gap = (one) => {
    const begins = (one.offset ?? 0) - Math.floor(one.data.length * 3 / 4) + (one.data.match(/=+$/)?.[0].length ?? 0);
    if (one.offset && begins > offset) view.note(`[${bytes(begins - offset)} left out of the log here]`);
  };
  // The node was asked and answers again before anything is read on: by then it is known what runs there.
  const retry = (data) => {
    if (isLeft) return;
    const isReady = get(node, "node")?.state === "ready";
    const waits = !isReady || mayReadOn();
    onState({ kind: "lost", data, waits });
    if (waits) setTimeout(() => (isReady ? read() : retry(data)), RETRY_MS);
    else view.finish();
  };
  const read = async () => {
    if (isLeft) return;
    onState({ kind: "reading" });
    try {
      current = await open(node, "follow", { workspace, id, offset }, view, { onPiece, write: (one) => { gap(one); return write(one); }, onEnd: (one) => {
        if (isLeft) return;
        if (one.kind === "lost") { retry(one.data); return; }
        view.finish();
        onState(one);
      } });
      if (isLeft) current.close();
    } catch (error) {
      const data = { problem: error.message, hint: error.hint ?? "" };
      if (error.status === 200 || error.status === 404) onState({ kind: "refused", data }); else retry(data);
    }
  };
  read();
  return { close: () => { isLeft = true; current?.close(); }, again: read };
}
