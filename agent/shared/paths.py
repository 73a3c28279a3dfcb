"""Where programs and workspaces are. Imports nothing: it also travels to a node that has no agent yet (needs.py)."""

from __future__ import annotations

BASE = "/srv/codesmith"
# Root runs what the system brought, never what somebody put below /usr/local.
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
# One for all that runs as a workspace's login: commands, and git for clones.
JOB_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"
