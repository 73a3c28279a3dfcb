"""Runs on a node as root: a random stream of changes, each cut off by a SIGKILL somewhere, each looked at afterwards.

    python3 storm SEED KILLS

Prints {"seed", "kills", "operations", "failures", ...}. The agent, the helper, one of its children or a tool dies; then
the client does what clients do, it calls again with the same request_id (or never again, and somebody else deletes the
thing). After that everything on the node must be complete or absent. Python 3.9, standard library only.
"""

import collections
import json
import os
import random
import re
import subprocess
import sys
import threading
import time

from calls import PATIENCE_S, Cut, Refused, ask, patiently
from killer import Killer
from look import CRONTABS, FILES, WORKSPACES, Look
from model import Model

AUDIT = "/var/log/codesmith/audit.jsonl"


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
