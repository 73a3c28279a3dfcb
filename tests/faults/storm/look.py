"""The node compared with the model, part by part."""

import os
import re
import sqlite3

from calls import patiently
from killer import Processes

HOMES, WORKSPACES = "/srv/codesmith/home", "/srv/codesmith/workspaces"
CRONTABS = "/var/spool/cron/crontabs"
NO_HOME = "/srv/codesmith/empty"
# In the directory of a workspace that has had a runtime: empty, and root's.
FACTS = ".codesmith"
# Where the sessions of each open login have their bounds.
UNITS = "/etc/systemd/system"
FILES = 100


class Look:
    """Compares the node with the model; `wrong` has what differs."""

    def __init__(self, model):
        self.model, self.wrong = model, []
        self.check_answers()
        self.check_ledger()
        self.check_accounts()
        self.check_trees()
        self.check_rest()

    def same(self, what, found, wanted):
        if found != wanted:
            self.wrong.append(f"{what}: {found!r} instead of {wanted!r}")

    def check_answers(self):
        users = {one["name"]: (one["state"], bool(one["ssh_keys"])) for one in patiently("user.list")}
        self.same("user.list", users, {name: (one["state"], one["keys"]) for name, one in self.model.users.items()})
        found = {
            one["name"]: (one["user"], one["sandbox"] is not None, one["repos"], one["state"], one["shared_with"])
            for one in patiently("workspace.list")
        }
        wanted = {
            name: (one["user"], one["sandbox"], one["repos"], "ready", sorted(one["shared"]))
            for name, one in self.model.workspaces.items()
        }
        self.same("workspace.list", found, wanted)

    def check_ledger(self):
        ledger = sqlite3.connect("/var/lib/codesmith-helper/ledger.db", timeout=30)
        users = dict(ledger.execute("SELECT name, state FROM users"))
        self.uids = dict(ledger.execute("SELECT name, uid FROM logins"))
        states = {row[0] for row in ledger.execute("SELECT DISTINCT state FROM logins")}
        workspaces = {row[0]: row[1:] for row in ledger.execute("SELECT name, user, state FROM workspaces")}
        shares = sorted(tuple(row) for row in ledger.execute("SELECT workspace, user FROM shares"))
        seals = sorted(row[0] for row in ledger.execute("SELECT workspace FROM seals"))
        sandboxes = [row[0] for row in ledger.execute("SELECT workspace FROM sandboxes ORDER BY 1")]
        ledger.close()
        self.same("users of the ledger", users, {name: one["state"] for name, one in self.model.users.items()})
        wanted = {name: (one["user"], "active") for name, one in self.model.workspaces.items()}
        self.same("workspaces of the ledger", workspaces, wanted)
        self.same("logins of the ledger", sorted(self.uids), sorted({*self.model.users, *self.model.workspaces}))
        self.same("their states", states - {"active"}, set())
        wanted = sorted((name, user) for name, one in self.model.workspaces.items() for user in one["shared"])
        self.same("shares of the ledger", shares, wanted)
        self.same("seals of the ledger", seals, sorted(name for name in self.model.workspaces if self.is_closed(name)))
        wanted = sorted(name for name, one in self.model.workspaces.items() if one["sandbox"])
        self.same("sandboxes of the ledger", sandboxes, wanted)

    def is_closed(self, workspace):
        return self.model.users[self.model.workspaces[workspace]["user"]]["state"] == "disabled"

    def check_accounts(self):
        names = sorted({*self.model.users, *self.model.workspaces})
        logins = sorted("cs-" + name for name in names)
        lines = {}
        for base in ("passwd", "shadow", "group", "gshadow"):
            with open("/etc/" + base) as file:
                rows = [line.rstrip("\n").split(":") for line in file if line.startswith("cs-")]
            self.same("/etc/" + base, sorted(row[0] for row in rows), logins)
            lines[base] = {row[0]: row for row in rows}
        opened = set()
        with open("/etc/group") as file:
            members = next(row.strip().split(":")[3] for row in file if row.startswith("codesmith-logins:")).split(",")
        self.same("logins that are gone", {one for one in members if one} - set(logins), set())
        for name in names:
            passwd, shadow = lines["passwd"].get("cs-" + name), lines["shadow"].get("cs-" + name)
            if passwd and shadow:
                self.same(name + " uid", (int(passwd[2]), passwd[5]), (self.uids.get(name), NO_HOME))
                closed = ("nologin" in passwd[6], shadow[1].startswith("!"), shadow[7] == "1")
                user = self.model.users.get(name)
                is_open = user is not None and user["state"] != "disabled" and user["keys"]
                self.same(name + " closed", closed, (not is_open,) * 3)
                if is_open:
                    opened.add(self.uids.get(name))
                    self.same(name + " in the group of logins", "cs-" + name in members, True)
        slices = (re.match(r"user-(\d+)\.slice", entry) for entry in os.listdir(UNITS))
        bounded = {int(one.group(1)) for one in slices if one}
        self.same("sessions without bounds", opened - bounded, set())
        self.same("bounds of nobody", bounded - set(self.uids.values()), set())

    def check_trees(self):
        self.same("homes", sorted(os.listdir(HOMES)), sorted("cs-" + name for name in self.model.workspaces))
        self.same("workspaces", sorted(os.listdir(WORKSPACES)), sorted(self.model.workspaces))
        self.same(NO_HOME, os.listdir(NO_HOME), [])
        for name, one in self.model.workspaces.items():
            top, home, uid = WORKSPACES + "/" + name, HOMES + "/cs-" + name, self.uids.get(name)
            wanted = (0, 0) if self.is_closed(name) else (uid, 0o700)
            if os.path.isdir(home):
                seen = os.stat(home)
                self.same(home, (seen.st_uid, seen.st_mode & 0o7777), wanted)
            if os.path.isdir(top):
                seen = os.stat(top)
                self.same(top, (seen.st_uid, seen.st_mode & 0o7777), wanted)
                inside = ["AGENTS.md", "code", "config", "data", "logs", "tmp"]
                self.same(top + "/", sorted(set(os.listdir(top)) - {FACTS}), inside)
                self.same(top + "/code", sorted(os.listdir(top + "/code")), one["repos"])
                self.check_tree(top, uid)
                for repo in one["repos"]:
                    self.same(top + " repo", os.path.isfile(top + "/code/" + repo + "/one"), True)

    def check_tree(self, top, uid):
        """Every inode is the owner's, but the place of the facts, and what was put there is there."""
        owners, files = set(), 0
        for folder, _, names in os.walk(top):
            if folder == top + "/" + FACTS:
                continue
            for name in names:
                files += folder.startswith(top + "/data/")
                owners.add(os.lstat(folder + "/" + name).st_uid)
            if folder != top:
                owners.add(os.lstat(folder).st_uid)
        self.same(top + " owners", owners, {uid})
        self.same(top + " files", (files, len(os.listdir(top + "/data"))), (FILES, FILES + 1))

    def check_rest(self):
        self.same("staging", os.listdir("/srv/codesmith/.staging"), [])
        for place in ("/tmp", "/tmp/shared"):
            left = [name for name in os.listdir(place) if name.startswith((".codesmith", "litter"))]
            self.same(place, left, [])
        # Enabling a user takes those of open accounts away; none may be left by a login that is gone.
        left = set(os.listdir(CRONTABS)) - {"cs-" + name for name in self.model.crontabs}
        self.same("crontabs", sorted(left), [])
        running = []
        for pid in Processes().all:
            try:
                uid = os.stat(f"/proc/{pid}").st_uid
            except OSError:
                continue
            if 1879048192 <= uid < 2147483647 and not self.is_supervisor(pid):
                running.append(pid)
        self.same("processes of logins", running, [])

    def is_supervisor(self, pid):
        """Tell whether a process is the supervisor of a workspace that is open."""
        try:
            with open(f"/proc/{pid}/cgroup") as file:
                groups = file.read()
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            return True  # it has ended
        is_open = [f"@{name}.service" in groups for name in self.model.workspaces if not self.is_closed(name)]
        return any(is_open) and b"supervisor" in words
