"""Where programs and workspaces are. Imports nothing: it is also sent to nodes that have no agent yet (needs.py)."""

from __future__ import annotations

BASE = "/srv/codesmith"
# Root runs only programs of the system, never one that somebody put below /usr/local.
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
# The variable by which a supervisor finds what a job has started.
JOB_MARK = "CODESMITH_JOB"
# How the name of a file begins that a client collects pieces in, until it moves it to its place.
UPLOAD = ".codesmith-upload-"
# Of everything that runs as a workspace's login: commands, and git.
JOB_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"
