#!/bin/sh
# Upgrade the agents of a fleet: the nodes with the tag canary first, the others only if those are healthy.
# Usage: examples/fleet_upgrade.sh [TAG]
set -eu
canary=${1:-canary}
codesmith node.prepare --tag "$canary"
if ! codesmith node.health --tag "$canary" >/dev/null || ! codesmith node.verify --tag "$canary"; then
    codesmith node.rollback --tag "$canary" || true # the first release has none before it
    echo "the nodes tagged $canary are not healthy; the others stay as they were" >&2
    exit 1
fi
codesmith node.prepare --all
codesmith node.verify --all
