"""Runs on a node as root: a random stream of changes, each cut off by a SIGKILL somewhere, each looked at afterwards.

    storm.py SEED KILLS

Prints {"seed", "kills", "operations", "failures", ...}. The agent, the helper, one of its children or a tool dies; then
the client does what clients do, it calls again with the same request_id (or never again, and somebody else deletes the
thing). After that everything on the node must be complete or absent. Python 3.9, standard library only.
"""

import collections
import json
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time

SOCKET = "/run/codesmith/agent.sock"
HOMES, WORKSPACES = "/srv/codesmith/home", "/srv/codesmith/workspaces"
CRONTABS = "/var/spool/cron/crontabs"
AUDIT = "/var/log/codesmith/audit.jsonl"
URL = "https://127.0.0.1:8443/public.git"
NO_HOME = "/srv/codesmith/empty"
# In the directory of a workspace that has had a runtime: empty, and root's.
FACTS = ".codesmith"
# Where the sessions of each open login have their bounds.
UNITS = "/etc/systemd/system"
TOOLS = ("useradd", "userdel", "usermod", "groupdel", "git", "systemd-run", "systemctl", "ssh-keygen", "ipcrm")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBf4QyqMtYxF0pAkrXgUeYX1gYHnH1P7rqSyGTYk1c2l"
PATIENCE_S = 60
FILES = 100
USERS, NAMES = ("u0", "u1", "u2"), ("w0", "w1", "w2")


class Cut(Exception):
    """The connection broke before the answer."""


class Refused(Exception):
    """The agent answered an error."""

    def __init__(self, error):
        super().__init__(error["message"])
        self.kind, self.data = error["data"]["kind"], error["data"]

    @property
    def is_open(self):
        """It is not known yet what became of the change."""
        return bool(self.data.get("pending")) or "helper does not answer" in str(self)


def ask(method, **params):
    """Make one call on a connection of its own."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(PATIENCE_S)
        try:
            peer.connect(SOCKET)
            head = f"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
            peer.sendall(head.encode() + body)
            answer = b"".join(iter(lambda: peer.recv(65536), b""))
        except OSError as error:
            raise Cut(str(error)) from None
    head, end, text = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    if not end or length is None or len(text) < int(length.group(1)):
        raise Cut("half an answer")
    answer = json.loads(text)
    if "error" in answer:
        raise Refused(answer["error"])
    return answer["result"]


def patiently(method, **params):
    """Call until there is an answer."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask(method, **params)
        except Cut:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


class Processes:
    """Who is who on the node."""

    def __init__(self):
        self.all = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/stat", "rb") as file:
                        stat = file.read().decode("utf-8", "replace")
                    with open(f"/proc/{entry}/cmdline", "rb") as file:
                        words = file.read().split(b"\0")
                except OSError:
                    continue
                parent = int(stat.rpartition(")")[2].split()[1])
                self.all[int(entry)] = (stat[stat.index("(") + 1 : stat.rindex(")")], parent, words)

    def parts(self, part):
        """Return the pids of one half of the agent."""
        return [
            pid for pid, (_, _, words) in self.all.items() if words[-2:-1] == [part] and words[-3].endswith(b"/program")
        ]

    def victims(self, kind):
        """Return the pids that a kill of this kind is for."""
        helpers = self.parts(b"helper")
        mains = [pid for pid in helpers if self.all[pid][1] not in helpers]
        if kind == "agent":
            return self.parts(b"agent")
        if kind == "helper":
            return mains
        if kind in ("child", "sweep"):
            return [pid for pid in helpers if pid not in mains]
        if kind == "both":
            return self.parts(b"agent") + mains
        return [pid for pid, (name, parent, _) in self.all.items() if name in TOOLS and parent != 1]


class Killer(threading.Thread):
    """Kills once, at some moment of a call; a tool or child as soon as there is one, or a bit later."""

    def __init__(self, kind, moment_s, is_over, has_begun):
        super().__init__(daemon=True)
        self.kind, self.moment_s, self.is_over, self.killed = kind, moment_s, is_over, []
        self.has_begun = has_begun

    def run(self):
        while self.kind == "sweep" and not self.has_begun() and not self.is_over.is_set():
            pass
        if self.is_over.wait(self.moment_s):
            return
        while not self.killed and not self.is_over.is_set():
            for pid in Processes().victims(self.kind):
                try:
                    os.kill(pid, signal.SIGKILL)
                    self.killed.append(pid)
                except ProcessLookupError:
                    pass
            if self.kind in ("agent", "helper", "both"):
                return


class Model:
    """What must be on the node: users by name, workspaces by name."""

    def __init__(self):
        self.users, self.workspaces = {}, {}
        # The logins that have a crontab, which root has put there.
        self.crontabs = set()

    def dedicated(self, name):
        return self.users.get(name, {}).get("dedicated")

    def owned(self, user):
        return [name for name, one in self.workspaces.items() if one["user"] == user]

    def ends_user(self, method, params):
        """Tell whether a change deletes the user of its name, maybe with the workspace of that name."""
        name = params.get("name")
        whole = self.owned(name) == [name] and self.dedicated(name) and method == "workspace.delete"
        return whole or method == "user.delete"

    def ends_login(self, method, params):
        """Tell whether a change removes the login of its name."""
        name = params.get("name")
        if method == "user.delete":
            return name not in self.workspaces
        return method == "workspace.delete" and (name not in self.users or self.ends_user(method, params))

    def choices(self):
        """Yield (weight, method, params) of what may be done now."""
        active = [name for name, one in self.users.items() if one["state"] == "active"]
        for name in USERS:
            if name not in self.users:
                yield 3, "user.create", {"name": name, "ssh_keys": [KEY]}
        for name, one in self.users.items():
            if not self.owned(name) and not one["dedicated"]:
                yield 3, "user.delete", {"name": name}
            yield 1, "user.set_keys", {"name": name, "ssh_keys": [] if one["keys"] else [KEY]}
            yield 1, ("user.enable" if one["state"] == "disabled" else "user.disable"), {"name": name}
        for name in NAMES:
            if name not in self.workspaces and name not in self.users:
                yield 4, "workspace.create", {"name": name}
                yield 0.3, "workspace.create", {"name": name, "repo": {"url": URL}}
                for user in active:
                    yield 1, "workspace.create", {"name": name, "user": user}
        for name, one in self.workspaces.items():
            yield 2, "workspace.delete", {"name": name}
            for user in active:
                if user != one["user"]:
                    yield 1, "workspace.assign", {"name": name, "user": user}
                    if user not in one["shared"]:
                        yield 0.5, "workspace.share", {"name": name, "user": user}
            for user in one["shared"]:
                yield 0.5, "workspace.unshare", {"name": name, "user": user}
            if one["repos"]:
                yield 1, "repo.delete", {"workspace": name, "name": "public"}
            if self.users[one["user"]]["state"] != "active":
                continue
            if one["sandbox"]:
                yield 1, "sandbox.delete", {"workspace": name}
            else:
                yield 0.5, "sandbox.create", {"workspace": name, "limits": {"tasks": 100}}
            if not one["repos"]:
                yield 0.5, "repo.clone", {"workspace": name, "url": URL}

    def done(self, method, params):
        """Write down what a change that succeeded did."""
        name = params.get("name")
        workspace = self.workspaces.get(params.get("workspace", name))
        if method == "user.create":
            self.users[name] = {"state": "active", "keys": True, "dedicated": False}
        elif method == "user.delete":
            if self.ends_login(method, params):
                self.crontabs.discard(name)
            del self.users[name]
            for one in self.workspaces.values():
                one["shared"].discard(name)
        elif method == "user.set_keys":
            self.users[name]["keys"] = bool(params["ssh_keys"])
        elif method in ("user.disable", "user.enable"):
            self.users[name]["state"] = {"user.disable": "disabled", "user.enable": "active"}[method]
        elif method == "workspace.create":
            user, repos = params.get("user", name), ["public"] if "repo" in params else []
            if user == name:
                self.users[name] = {"state": "active", "keys": False, "dedicated": True}
            self.workspaces[name] = {"user": user, "sandbox": False, "repos": repos, "shared": set()}
        elif method == "workspace.delete":
            self.crontabs.discard(name)
            if self.ends_user(method, params):
                del self.users[name]
                for one in self.workspaces.values():
                    one["shared"].discard(name)
            del self.workspaces[name]
        elif method == "workspace.assign":
            workspace["user"] = params["user"]
            workspace["shared"].discard(params["user"])
        elif method in ("workspace.share", "workspace.unshare"):
            (workspace["shared"].add if method == "workspace.share" else workspace["shared"].discard)(params["user"])
        elif method.startswith("sandbox."):
            workspace["sandbox"] = method == "sandbox.create"
        else:
            workspace["repos"] = ["public"] if method == "repo.clone" else []


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


def sort_of(method, params):
    """Name what a change is, as far as it tells how long it takes."""
    return method + " with repo" if "repo" in params else method


class Storm:
    """The stream of changes."""

    def __init__(self, seed, kills):
        self.seed, self.wanted, self.random = seed, kills, random.Random(seed)
        self.model, self.kills, self.failures = Model(), collections.Counter(), []
        self.usual_s, self.number = {}, 0
        self.answers, self.attempts = collections.Counter(), collections.Counter()
        self.outcomes = collections.Counter()

    def run(self):
        begun = time.monotonic()
        os.makedirs("/tmp/shared", exist_ok=True)
        os.chmod("/tmp/shared", 0o1777)
        while sum(self.kills.values()) < self.wanted and len(self.failures) < 3:
            self.step()
        for name in list(self.model.workspaces):
            self.change("workspace.delete", {"name": name}, None)
        for name in list(self.model.users):
            self.change("user.delete", {"name": name}, None)
        self.check_end()
        return {
            "seed": self.seed,
            "operations": self.number,
            "kills": dict(self.kills),
            "failures": self.failures,
            "outcomes": dict(self.outcomes),
            "seconds": round(time.monotonic() - begun, 1),
            "usual_s": {sort: round(took, 3) for sort, took in self.usual_s.items()},
        }

    def step(self):
        weights, methods, params = zip(*self.model.choices(), strict=False)
        chosen = self.random.choices(range(len(methods)), weights)[0]
        method, params = methods[chosen], params[chosen]
        # The first call of each kind tells how long it takes.
        kinds, odds = ("agent", "helper", "child", "both", "tool"), (2, 4, 3, 1, 4)
        kind = self.random.choices(kinds, odds)[0] if sort_of(method, params) in self.usual_s else None
        if kind and self.model.ends_login(method, params) and self.random.random() < 0.5:
            kind = "sweep"
        self.change(method, params, kind)

    def change(self, method, params, kind):
        """Make a change, cut off or not, until it is settled; then look."""
        self.number += 1
        request = f"{self.seed}-{self.number}"
        params = dict(params, request_id=request)
        said, reply = f"{self.number} {method} {params}", None
        if self.model.ends_login(method, params):
            self.litter(params["name"])
        is_over = threading.Event()
        usual_s = self.usual_s.get(sort_of(method, params), 0)
        moment_s = self.random.uniform(0, {"tool": 0.02, "sweep": 0.005}.get(kind, usual_s * 1.1))
        killer = Killer(kind, moment_s, is_over, self.is_sweeping)
        begun = time.monotonic()
        if kind:
            killer.start()
        try:
            reply = self.once(method, params)
        except (Cut, Refused) as error:
            first = error
        took_s = time.monotonic() - begun
        is_over.set()
        if kind:
            killer.join()
            self.kills[kind] += bool(killer.killed)
            said += f" kill of {kind}{killer.killed!r} at {moment_s:.3f} s"
        else:
            self.usual_s[sort_of(method, params)] = took_s
        if reply is None:
            said += f" -> {type(first).__name__} {first}"
        self.settle(method, params, kind, reply, said)
        for problem in Look(self.model).wrong:
            self.failures.append(f"{said} | {problem}")
        if self.failures:
            found = subprocess.run(["journalctl", "-n", "40", "--no-pager", "-o", "cat"], stdout=subprocess.PIPE)
            sys.stderr.write("{}\n{}\n".format("\n".join(self.failures), found.stdout.decode("utf-8", "replace")))
            sys.exit(1)

    def furnish(self, method, name):
        """Give a new login a crontab, and a new workspace some files, two of them one inode."""
        if method not in ("user.create", "workspace.create"):
            return
        uid = self.uid_of(name)
        self.model.crontabs.add(name)
        with open(CRONTABS + "/cs-" + name, "w") as file:
            file.write("@daily true\n")
        if method == "workspace.create":
            data = WORKSPACES + "/" + name + "/data"
            for number in range(FILES):
                os.mkdir(f"{data}/{number}")
                with open(f"{data}/{number}/file", "w") as file:
                    file.write("x" * number)
                for path in (f"{data}/{number}", f"{data}/{number}/file"):
                    os.chown(path, uid, uid)
            os.link(data + "/1/file", data + "/same")

    def is_sweeping(self):
        """Tell whether somebody is at work on the user's directories."""
        try:
            return os.stat(f"/tmp/litter-{self.number}").st_uid == 0
        except OSError:
            return True

    def uid_of(self, name):
        return patiently("workspace.get" if name in self.model.workspaces else "user.get", name=name)["uid"]

    def litter(self, name):
        """Let a login that is about to be removed leave directories within directories in /tmp."""
        uid = self.uid_of(name)
        for top in (f"/tmp/litter-{self.number}", f"/tmp/shared/litter-{self.number}"):
            os.makedirs(top + "/d" * 40)
            for number in range(500):
                os.mkdir(f"{top}/{number}")
                os.chown(f"{top}/{number}", uid, uid)
            for folder, folders, _ in os.walk(top):
                os.mkdir(folder + "/e")
                os.chown(folder + "/e", uid, uid)
                os.chown(folder, uid, uid)
                folders[:] = ["d"] if "d" in folders else []

    def settle(self, method, params, kind, reply, said):
        """Do what the client does: call again with the same request id; or never, and somebody deletes the thing."""
        if reply is None and method in ("user.create", "workspace.create") and self.random.random() < 0.3:
            self.outcomes["abandoned"] += 1
            again = dict(params, request_id=params["request_id"] + "-d")
            if method == "workspace.create" and patiently("user.list") and self.has_only_user(params["name"]):
                return self.delete("user.delete", again)
            return self.delete(method.replace("create", "delete"), again)
        is_settled, deadline = False, time.monotonic() + PATIENCE_S
        while not is_settled:
            try:
                second = self.once(method, params)
                if reply is not None and second != reply:
                    self.failures.append(f"{said}: {reply!r}, and then {second!r}")
                self.outcomes["replied" if reply is not None else "completed"] += 1
                self.model.done(method, params)
                self.furnish(method, params.get("name"))
                return None
            except Cut:
                pass
            except Refused as error:
                is_settled = not error.is_open
                said += f", then {error} {error.data}"
                if is_settled and (reply is not None or kind != "tool"):
                    self.failures.append(said)
            if time.monotonic() > deadline:
                self.failures.append(f"{said}: not settled")
                return None
        self.outcomes["refused"] += 1
        for problem in Look(self.model).wrong:
            self.failures.append(f"{said} refused | {problem}")
        try:
            self.once(method, params)
            self.model.done(method, params)
            self.furnish(method, params.get("name"))
        except (Cut, Refused) as error:
            self.failures.append(f"{said}: refused, and again: {error}")
        return None

    def has_only_user(self, name):
        return name in [one["name"] for one in patiently("user.list")] and name not in [
            one["name"] for one in patiently("workspace.list")
        ]

    def delete(self, method, params):
        params = {"name": params["name"], "request_id": params["request_id"]}
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                return self.once(method, params)
            except Cut:
                pass
            except Refused as error:
                if not error.is_open:
                    if error.kind != "not_found":
                        self.failures.append(f"{params}: {error}")
                    return None
        self.failures.append(f"{params}: not deleted")
        return None

    def once(self, method, params):
        """Make one attempt and count it."""
        self.attempts[params["request_id"]] += 1
        try:
            result = ask(method, **params)
        except Refused:
            self.answers[params["request_id"]] += 1
            raise
        self.answers[params["request_id"]] += 1
        return result

    def check_end(self):
        wrong = Look(self.model).wrong
        # What a killed helper had not taken apart is left to the next one.
        for method in ("user.create", "user.delete"):
            patiently(method, name="last", request_id=method)
        if os.listdir("/srv/codesmith/.trash"):
            wrong.append("the trash is not empty")
        for program in ("pwck", "grpck"):
            said = subprocess.run([program, "-r"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout.decode()
            if "cs-" in said or "no matching" in said:
                wrong.append(f"{program}: {said}")
        health = patiently("node.health")
        if health["status"] != "ok":
            wrong.append(f"node.health: {health}")
        left = [name for name in os.listdir("/etc") if re.fullmatch(r"(passwd|shadow|group|gshadow)\.(lock|\d+)", name)]
        if left:
            wrong.append(f"/etc: {left}")
        with open(AUDIT) as file:
            records = [json.loads(line) for line in file]
        late = collections.Counter(one["request_id"] for one in records if one["outcome"].startswith("resumed"))
        lines = collections.Counter(one["request_id"] for one in records) - late
        wrong += [f"audit: nobody called {one}" for one in records if one["peer_uid"] is None]
        times = [one["time"] for one in records]
        if times != sorted(set(times)):
            wrong.append("audit: the records are not in the order of their times")
        for request, attempts in self.attempts.items():
            if not self.answers[request] <= lines[request] <= attempts or late[request] > attempts:
                wrong.append(
                    f"audit of {request}: {attempts} attempts, {self.answers[request]} answers, {lines[request]} "
                    f"records, {late[request]} resumed"
                )
        self.failures += wrong


def main():
    storm = Storm(int(sys.argv[1]), int(sys.argv[2]))
    print(json.dumps(storm.run()))


main()
