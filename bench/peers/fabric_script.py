"""Run one script over one stock Fabric connection with a checked host key: the least that checking a node costs."""

from __future__ import annotations

import sys
from pathlib import Path

import paramiko
from fabric import Connection

host, port, identity, known_hosts, script = sys.argv[1:]
keys = {"key_filename": identity, "allow_agent": False, "look_for_keys": False}
with Connection(host, user="root", port=int(port), connect_kwargs=keys) as connection:
    connection.client.load_host_keys(known_hosts)
    connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())
    done = connection.run(Path(script).read_text(encoding="utf-8"), hide=True, in_stream=False)
print(done.stdout.strip())
