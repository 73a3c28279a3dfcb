"""Processes of the agent, of its helper and of their tools, and who kills one of them at some moment."""

import os
import signal
import threading

TOOLS = ("useradd", "userdel", "usermod", "groupdel", "git", "systemd-run", "systemctl", "ssh-keygen", "ipcrm")


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
