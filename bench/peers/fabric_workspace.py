"""Make a user and a directory of its own over one stock Fabric connection, unless they exist."""

from __future__ import annotations

import sys

import paramiko
from fabric import Connection

host, port, identity, known_hosts, login = sys.argv[1:]
keys = {"key_filename": identity, "allow_agent": False, "look_for_keys": False}
with Connection(host, user="root", port=int(port), connect_kwargs=keys) as connection:
    connection.client.load_host_keys(known_hosts)
    connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())
    quiet = {"hide": True, "in_stream": False}
    if not connection.run(f"id -u -- {login}", warn=True, **quiet).ok:
        connection.run(f"useradd --create-home -- {login}", **quiet)
    if not connection.run(f"test -d /srv/{login}", warn=True, **quiet).ok:
        connection.run(f"install -d -m 0700 -o {login} -g {login} /srv/{login}", **quiet)
print("made", login)
