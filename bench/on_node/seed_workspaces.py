"""Runs on the node as root: fills store and ledger up to a number of workspaces, each with a user of its own.

The rows are those of a real workspace with other names, ids and uids; directories are made, accounts are not: useradd
would take hours, and its time is not what is measured. The agent is stopped meanwhile. Prints {"workspaces": count}.
"""

import json
import os
import sqlite3
import subprocess
import sys
import uuid
from pathlib import Path

from client import Client

STORE, LEDGER = "/var/lib/codesmith/state.db", "/var/lib/codesmith-helper/ledger.db"
WORKSPACES = "/srv/codesmith/workspaces"
UNITS = ("codesmith-agent.socket", "codesmith-helper.socket")
SERVICES = ("codesmith-agent.service", "codesmith-helper.service")
UIDS_LEFT_FREE = 1_000  # behind that of the model: for what the bench creates itself


def make_model():
    """Create the one real workspace, and the user that owns the workspaces of `measure_growth.py`."""
    client = Client()
    if "model" not in [found["name"] for found in client.call("workspace.list")]:
        client.call("workspace.create", name="model")
        client.call("user.create", name="owner")


def copies(store, kind, names):
    """Yield each name with a copy of the model's document for it."""
    text = store.execute(f"SELECT document FROM {kind} WHERE name = 'model'").fetchone()[0]
    for number, name in names:
        document = json.loads(text.replace('"model"', json.dumps(name)).replace("/model", "/" + name))
        uid = document["uid"] + UIDS_LEFT_FREE + number
        document.update({"login": "cs-" + name, "uid": uid, "gid": uid})
        if "home" in document:
            document["home"] = "/srv/codesmith/home/cs-" + name
        if "id" in document:
            document["id"] = str(uuid.uuid4())
        yield name, document


def main():
    """Fill up to the number of workspaces in the argument, with the agent stopped."""
    wanted = int(sys.argv[1])
    make_model()
    subprocess.run(["systemctl", "stop", *UNITS, *SERVICES], check=True)
    store, ledger = sqlite3.connect(STORE), sqlite3.connect(LEDGER)
    (there,) = store.execute("SELECT count(*) FROM workspaces").fetchone()
    names = [(number, f"seed{number}") for number in range(there, wanted)]
    with store, ledger:
        for name, document in copies(store, "users", names):
            store.execute("INSERT INTO users VALUES (?, ?)", (name, json.dumps(document)))
            row = (name, document["uid"], "active", document["created_at"])
            ledger.execute("INSERT INTO logins VALUES (?, ?, ?, ?)", row)
            ledger.execute("INSERT INTO users VALUES (?, ?, ?)", (name, "active", document["created_at"]))
        for name, document in copies(store, "workspaces", names):
            store.execute("INSERT INTO workspaces VALUES (?, ?, ?)", (name, name, json.dumps(document)))
            row = (name, name, document["id"], "active", document["created_at"])
            ledger.execute("INSERT INTO workspaces VALUES (?, ?, ?, ?, ?)", row)
            Path(WORKSPACES, name).mkdir(0o700)
            os.chown(Path(WORKSPACES, name), document["uid"], document["gid"])
    for database in (store, ledger):
        database.close()
    for path in (STORE, STORE + "-wal", STORE + "-shm"):  # they must still belong to the agent
        if Path(path).exists():
            subprocess.run(["chown", "codesmith:codesmith", path], check=True)
    subprocess.run(["systemctl", "start", *UNITS], check=True)
    print(json.dumps({"workspaces": len(Client().call("workspace.list"))}))


main()
