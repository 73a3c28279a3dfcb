"""Few logins at one host at a time: its sshd refuses at random from ten on."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

from codesmith.nodes.registry import Node
from codesmith.tunnel.logins import AT_ONCE, Logins
from tests.waiting import eventually


class Openings:
    """Opens nothing; keeps everybody waiting until `done`."""

    def __init__(self) -> None:
        self.inside: Counter[str | None] = Counter()
        self.most: Counter[str | None] = Counter()
        self.done, self._lock = threading.Event(), threading.Lock()

    def __call__(self, node: Node, on_lost: Any, *, fails: bool = False) -> Any:
        with self._lock:
            self.inside[node.host] += 1
            self.most |= self.inside
        self.done.wait(20)
        with self._lock:
            self.inside[node.host] -= 1
        if fails:
            raise OSError("refused")
        return node.name


def node(name: str, host: str | None) -> Node:
    return Node(name=name, registry=Path("nodes.yaml"), host=host)


def test_few_log_in_at_one_host_at_a_time_and_others_do_not_wait_for_them() -> None:
    openings = Openings()
    logins = Logins(openings)
    names = [f"n{number:02}" for number in range(3 * AT_ONCE)]
    opened: list[str] = []
    threads = [
        threading.Thread(target=lambda one=one: opened.append(logins(one, lambda: None)))  # type: ignore[misc]
        for one in (*(node(name, "198.18.0.1") for name in names), node("elsewhere", "198.18.0.2"), node("lab", None))
    ]
    for thread in threads:
        thread.start()
    eventually(lambda: openings.inside == {"198.18.0.1": AT_ONCE, "198.18.0.2": 1, None: 1})
    openings.done.set()
    for thread in threads:
        thread.join()
    assert sorted(opened) == sorted([*names, "elsewhere", "lab"])
    assert openings.most["198.18.0.1"] == AT_ONCE


def test_a_login_that_fails_gives_its_place_back() -> None:
    openings = Openings()
    openings.done.set()
    logins = Logins(openings)
    for _ in range(2 * AT_ONCE):
        try:
            logins(node("n", "198.18.0.1"), lambda: None, fails=True)
        except OSError:
            continue
    assert logins(node("n", "198.18.0.1"), lambda: None) == "n"
