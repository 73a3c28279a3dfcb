#!/bin/sh
# A CI job for one branch, in a workspace of its own that is gone afterwards; its exit code is that of the tests.
# Usage: examples/ci_runner.sh NODE URL BRANCH COMMAND ...     e.g. ci_runner.sh web1 https://git.example.org/site.git main make test
set -eu
node=$1 url=$2 branch=$3
shift 3
# A branch may have any name, a workspace has a-z, 0-9 and hyphens, 28 at most.
name=ci-$(printf %s "$branch" | tr 'A-Z' 'a-z' | tr -c 'a-z0-9\n' - | cut -c1-16)-$$
cleanup() { codesmith workspace.delete "$name" --node "$node" --yes >/dev/null; }
trap cleanup EXIT
codesmith workspace.create "$name" --node "$node" --label "branch=$(printf %s "$branch" | tr -c 'A-Za-z0-9._\n' -)" -o name
codesmith sandbox.create "$name" --node "$node" --memory 1G --tasks 300 -o name >/dev/null
codesmith repo.clone "$name" "$url" --name source --ref "$branch" --node "$node" -o name >/dev/null
codesmith workspace.exec "$name" --node "$node" --cwd code/source --timeout 900 -- "$@"
