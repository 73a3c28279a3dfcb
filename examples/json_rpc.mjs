// JSON-RPC over a node's local endpoint from another language, without any library: node examples/json_rpc.mjs [NODE]
import { execFileSync } from "node:child_process";
import { request } from "node:http";

const chosen = process.argv[2] ? ["--node", process.argv[2]] : [];
const [row] = JSON.parse(execFileSync("codesmith", ["node.connect", "--json", ...chosen]));
const socketPath = row.endpoint.replace(/^unix:/, "");

function call(method, params = {}) {
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
    const sent = request({ socketPath, method: "POST", path: "/", headers }, (response) => {
      let text = "";
      response.on("data", (piece) => (text += piece));
      response.on("end", () => {
        const { result, error } = JSON.parse(text);
        error ? reject(new Error(`${error.data.kind}: ${error.message}`)) : resolve(result);
      });
    });
    sent.on("error", reject).end(body);
  });
}

const { title, version } = (await call("rpc.discover")).info;
console.log(`${title} ${version}`);
await call("workspace.create", { name: "from-node" });
try {
  const { stdout } = await call("workspace.exec", { name: "from-node", argv: ["id", "-un"] });
  console.log(stdout.trim());
  await call("workspace.exec", { name: "nobody", argv: ["true"] });
} catch (error) {
  console.log(error.message);
} finally {
  await call("workspace.delete", { name: "from-node" });
}
