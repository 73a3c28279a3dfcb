"""Control groups of this process and of units beside it: version 2, and the hierarchies of version 1."""

from __future__ import annotations

import functools
import os
from typing import Dict, List, Optional

ROOT = "/sys/fs/cgroup"
# systemd's own hierarchy of version 1; it has no controller.
SYSTEMD = "name=systemd"
SLICE = "codesmith.slice"
# A limit of version 1 that limits nothing is the largest multiple of a page.
UNLIMITED = 1 << 62


def own(path: str = "/proc/self/cgroup") -> Dict[str, str]:
    """Return the directory of this process's group by controller; version 2 is the controller ""."""
    found: Dict[str, str] = {}
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            place = f"{ROOT}/unified" if os.path.isdir(f"{ROOT}/unified") else ROOT
            found[""] = place + group.rstrip("/")
        for name in controllers.split(",") if controllers else ():
            place = f"{ROOT}/{'systemd' if name == SYSTEMD else controllers}"
            found[name] = place + group.rstrip("/")
    return found


@functools.cache
def _roots(own_unit: str) -> Dict[str, str]:
    mine = f"/system.slice/{own_unit}"
    found = own()
    beside = {name: place[: -len(mine)] for name, place in found.items() if place.endswith(mine)}
    # This unit has no limit of cpus, so no group of its own there in version 1; one that has lies at the same path.
    above = beside.get(SYSTEMD)
    if "cpu" in found and "cpu" not in beside and above is not None:
        beside["cpu"] = f"{ROOT}/cpu{above[len(f'{ROOT}/systemd') :]}"
    return beside


def of_unit(unit: str, own_unit: str = "codesmith-agent.service") -> Dict[str, str]:
    """Return the directories of a unit in our slice, by controller, as a service of the system sees them."""
    return {name: f"{place}/{SLICE}/{unit}" for name, place in _roots(own_unit).items()}


def read(groups: Dict[str, str], controller: str, *names: str) -> Optional[str]:
    """Return the first of these files that is there: in the group of a controller, or of version 2."""
    for place in (groups.get(controller), groups.get("")):
        for name in names if place else ():
            try:
                with open(f"{place}/{name}", encoding="ascii") as file:
                    return file.read()
            except OSError:
                continue
    return None


def read_number(groups: Dict[str, str], controller: str, *names: str) -> Optional[int]:
    """Return the number in such a file; None without one, or for `max`."""
    words = (read(groups, controller, *names) or "").split()
    number = int(words[0]) if words and words[0].isdigit() else None
    return number if number is None or number < UNLIMITED else None


def read_field(groups: Dict[str, str], controller: str, field: str, *names: str) -> Optional[int]:
    """Return the number beside `field` in such a file of lines."""
    for line in (read(groups, controller, *names) or "").splitlines():
        name, _, number = line.partition(" ")
        if name == field and number.isdigit():
            return int(number)
    return None


def read_cpus(groups: Dict[str, str]) -> Optional[float]:
    """Return how many processors a group may use; None without a limit."""
    both = (read(groups, "cpu", "cpu.max") or "").split()
    if len(both) == 2 and both[0].isdigit():
        return int(both[0]) / int(both[1])
    quota = read_number(groups, "cpu", "cpu.cfs_quota_us")
    period = read_number(groups, "cpu", "cpu.cfs_period_us")
    return quota / period if quota and period else None


def memory_kills(groups: Dict[str, str]) -> int:
    """Return how many processes the kernel has ended in a group because its memory was used up."""
    return read_field(groups, "memory", "oom_kill", "memory.oom_control", "memory.events") or 0


def processes(groups: Dict[str, str]) -> List[int]:
    """Return the process ids in a group; none when it is not there."""
    text = read(groups, SYSTEMD, "cgroup.procs") or ""
    return [int(word) for word in text.split()]
