#!/bin/sh
# JSON-RPC over a node's local endpoint with curl, without any library. Usage: examples/raw_rpc.sh [NODE]
set -eu
inv node.connect ${1:+--node "$1"} >/dev/null
endpoint=$(inv node.status --json | python3 -c '
import json, sys
ready = [one for one in json.load(sys.stdin) if one["state"] == "ready" and sys.argv[1] in ("", one["name"])]
print(ready[0]["endpoint"].removeprefix("unix:"))' "${1:-}")
curl -sS --unix-socket "$endpoint" http://node/ -d '{"jsonrpc":"2.0","id":1,"method":"node.version"}'
echo
