// Files between this browser and a workspace, a piece at a time: downloads are put together here and never served by
// our origin; an upload stands under a temporary name until it is whole.

import { ask, step } from "./rpc.js";
import { decodeBase64 } from "./outputs.js";
import { DECEIVING } from "./text.js";

const PIECE = 128 << 10;
const TOGETHER = 16 << 20;

// Put a download into the browser's hands. It is bytes and no page, whatever its name says.
export function save(blob, name) {
  const anchor = document.createElement("a");
  anchor.href = URL.createObjectURL(blob);
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 60000);
}

// A name for this machine's disk: one part of a path, and nothing in it that shows another name than it is.
export const safeName = (name) => name.replace(DECEIVING, "_").replace(/[\t\n/\\:*?"<>|]/g, "_").replace(/^\.+|[. ]+$/g, "_").slice(0, 200) || "file";

// Bytes of what was read so far; the browser may keep them on disk.
function collector() {
  let parts = [];
  let size = 0;
  return {
    add(piece) {
      parts.push(piece);
      size += piece.length;
      if (size > TOGETHER) { parts = [new Blob(parts)]; size = 0; }
    },
    blob: () => new Blob(parts, { type: "application/octet-stream" }),
  };
}

export async function download(node, workspace, path, { onProgress, isStopped }) {
  const whole = collector();
  let offset = 0;
  let etag = null;
  for (;;) {
    if (isStopped()) return null;
    const piece = await ask(node, "file.read", { workspace, path, offset, encoding: "base64" });
    if (etag !== null && piece.etag !== etag) throw new Error("it changed while it was read: nothing was saved");
    ({ etag } = piece);
    whole.add(decodeBase64(piece.data));
    onProgress(piece.next_offset, piece.size_bytes);
    if (piece.eof || piece.next_offset <= offset) return whole.blob();
    offset = piece.next_offset;
  }
}

// What a job has written until now, both streams in order; where the log has left bytes out, a line says so.
export async function downloadLog(node, workspace, id, { onProgress, isStopped }) {
  const whole = collector();
  const utf8 = new TextEncoder();
  let offset = 0;
  for (;;) {
    if (isStopped()) return null;
    const piece = await ask(node, "job.logs", { workspace, id, offset });
    if (piece.offset > offset) whole.add(utf8.encode(`\n[${piece.offset - offset} bytes left out of the log here]\n`));
    if (piece.data) whole.add(piece.encoding === "base64" ? decodeBase64(piece.data) : utf8.encode(piece.data));
    onProgress(piece.next_offset);
    if (piece.eof || piece.next_offset <= offset) return whole.blob();
    offset = piece.next_offset;
  }
}

function encodeBase64(piece) {
  let text = "";
  for (let at = 0; at < piece.length; at += 0x8000) text += String.fromCharCode(...piece.subarray(at, at + 0x8000));
  return btoa(text);
}

const folderOf = (path) => (path.includes("/") ? path.slice(0, path.lastIndexOf("/") + 1) : "");

// Write a file of this browser to `path`, whole or not at all. `mode` is that of the file it replaces.
export async function upload(node, workspace, path, file, { mode, replace, onProgress, isStopped }) {
  const temporary = `${folderOf(path)}.codesmith-upload-${crypto.randomUUID().slice(0, 8)}`;
  const call = (method, params) => step(node, method, { workspace, ...params });
  const drop = () => call("file.remove", { path: temporary }).catch(() => {});
  const leave = () => drop();
  window.addEventListener("pagehide", leave);
  try {
    let at = 0;
    do {
      if (isStopped()) { await drop(); return null; }
      const piece = new Uint8Array(await file.slice(at, at + PIECE).arrayBuffer());
      const first = at === 0 ? { if_etag: "absent", ...(mode && { mode }) } : { append: true };
      await call("file.write", { path: temporary, data: encodeBase64(piece), encoding: "base64", ...first });
      at += PIECE;
      onProgress(Math.min(at, file.size), file.size);
    } while (at < file.size);
    if (isStopped()) { await drop(); return null; }
    return await call("file.move", { path: temporary, new_path: path, replace });
  } catch (error) {
    await drop();
    throw error;
  } finally {
    window.removeEventListener("pagehide", leave);
  }
}
