"""The cost of commands on a distant node: round trips, shells there, programs here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from codesmith.lab.relay import Relay
from codesmith.nodes.registry import Registry
from codesmith.sdk.client import Client
from tests.counts.noting import Programs, Shells
from tests.person import Person

pytestmark = pytest.mark.lab
# Longer than either side computes between two sends of the same round trip.
RTT_MS = 100
QUIET_S = 3 * RTT_MS / 1000


@dataclass(frozen=True, order=True)
class Cost:
    """The cost of some work: TCP connections, round trips on them, login shells there, programs started here."""

    connections: int
    round_trips: int
    shells: int
    programs: tuple[str, ...]


class Meter:
    """Counts the cost of some work."""

    def __init__(self, person: Person, relay: Relay, folder: Path) -> None:
        self.person, self._relay = person, relay
        self._programs, self._shells = Programs(folder), Shells(person.lab_node("web1"))
        person.environment.update(self._programs.environment)

    def cost(self, work: Callable[[], object]) -> Cost:
        """Return the cost of `work` until it returned."""
        self._settle()
        before, _, _ = self._relay.traffic(), self._programs.take(), self._shells.take()
        work()
        after = self._relay.traffic()
        trips = after.round_trips - before.round_trips
        return Cost(after.connections - before.connections, trips, self._shells.take(), self._programs.take())

    def least(self, work: Callable[[], object]) -> Cost:
        """Return the least of three costs: a heartbeat of the forwarder, every four seconds, may add to one."""
        return min(self.cost(work) for _ in range(3))

    def _settle(self) -> None:
        """Wait until no traffic is under way, such as the end of a channel for which nobody waited."""
        seen = None
        while seen != (seen := self._relay.traffic()):
            time.sleep(QUIET_S)


@pytest.fixture(scope="module")
def meter(make_person: Callable[..., Person], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meter]:
    """A bare node, 100 ms away."""
    person = make_person({"web1": "bookworm"})
    node = person.lab_node("web1")
    with (relay := node.relay(RTT_MS)) as (host, port):
        person.write_registry({"web1": {**person.lab_entry("web1"), "host": host, "port": port}})
        key = " ".join(node.address.known_hosts.read_text().split()[1:3])
        (person.registry.parent / "known_hosts").write_text(f"[{host}]:{port} {key}\n")
        yield Meter(person, relay, tmp_path_factory.mktemp("noting"))
        person.runs("inv node.disconnect")


@pytest.fixture
def client(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client of the connected node that has not called yet."""
    for key in ("CODESMITH_HOME", "CODESMITH_NODES"):
        monkeypatch.setenv(key, meter.person.environment[key])
    with Client(Registry.load(meter.person.registry).get("web1")) as client:
        yield client


def test_prepare_of_a_bare_node(meter: Meter) -> None:
    """Greeting and login 4, probe 3, apply 3, proof 2; the two scripts have a shell each."""
    assert meter.cost(lambda: meter.person.runs("inv node.prepare")) == Cost(1, 12, 2, ("ssh",))


def test_prepare_with_nothing_to_do(meter: Meter) -> None:
    """Greeting and login 4, probe 3."""
    assert meter.cost(lambda: meter.person.runs("inv node.prepare")) == Cost(1, 7, 1, ("ssh",))


def test_the_doctors_look_at_a_node(meter: Meter) -> None:
    """Greeting and login 4, probe 3; the script there calls the agent too."""
    assert meter.cost(lambda: meter.person.runs("inv node.doctor")) == Cost(1, 7, 1, ("ssh",))


def test_connect_of_a_node_that_nobody_is_connected_to(meter: Meter) -> None:
    """Greeting and login 4, reading the node's id 3; the agent is called in parallel."""
    assert meter.cost(lambda: meter.person.runs("inv node.connect")) == Cost(1, 7, 1, ("python", "ssh"))


def test_connect_of_a_connected_node_costs_nothing(meter: Meter) -> None:
    assert meter.least(lambda: meter.person.runs("inv node.connect")) == Cost(0, 0, 0, ())


def test_a_call_on_a_new_connection(meter: Meter, client: Client) -> None:
    """A spare stream exists already; the next one is opened while the answer is on its way."""

    def call() -> None:
        client.close()
        client.node.version()

    assert meter.least(call) == Cost(0, 1, 0, ())


def test_a_call_on_a_kept_connection(meter: Meter, client: Client) -> None:
    client.node.version()
    assert meter.least(client.node.version) == Cost(0, 1, 0, ())
