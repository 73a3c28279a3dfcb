#!/bin/sh
# A dev server in a workspace, looked at on this laptop: http://127.0.0.1:PORT until Ctrl-C.
# Usage: examples/dev_server.sh NODE WORKSPACE PORT COMMAND ...    e.g. dev_server.sh web1 shop 8000 python3 -m http.server 8000
set -eu
node=$1 workspace=$2 port=$3
shift 3
codesmith job.start "$workspace" --node "$node" --name dev --cwd code -o name -- "$@" >/dev/null
stop() { codesmith job.stop "$workspace" dev --node "$node" -o name >/dev/null; }
trap stop EXIT
trap 'exit 130' INT TERM
# It waits for nothing: until the server listens inside, a connection is closed, and the next one is tried again.
codesmith workspace.forward "$workspace" "$port" --node "$node"
