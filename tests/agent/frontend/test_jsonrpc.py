"""Answers as text: long lists without all their records in memory."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator

import pytest

from agent.frontend.jsonrpc import CachedJson, JsonList
from tests.agent.conftest import Rpc


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
def test_a_list_is_written_whatever_its_length(count: int) -> None:
    records = [{"name": f"w{number}", "labels": {"a": '"],'}} for number in range(count)]
    assert json.loads(JsonList(iter(records)).text) == records


def test_a_list_is_never_whole_in_memory() -> None:
    def records() -> Iterator[dict[str, str]]:
        for number in range(2_000):
            yield {"text": f"{number:04}" * 256}

    tracemalloc.start()
    text = JsonList(records()).text
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # In parts, joined, and in brackets; the records would be as much again.
    assert peak < 3.25 * len(text)


def test_the_text_of_a_constant_answer_is_made_once() -> None:
    document = CachedJson({"openrpc": "1.3.2"})
    assert document.text is document.text
    assert json.loads(document.text) == document


def test_lists_of_the_api_come_whole_alone_and_in_a_batch(rpc: Rpc) -> None:
    names = sorted(f"w{number}" for number in range(5))
    for name in names:
        rpc.call("workspace.create", name=name)
    assert [one["name"] for one in rpc.call("workspace.list")] == names
    methods = ("user.list", "workspace.list", "sandbox.list")
    answers = rpc.answer([{"jsonrpc": "2.0", "id": one, "method": one} for one in methods])
    found = {one["id"]: [record["name"] for record in one["result"]] for one in answers}
    assert found == {"user.list": names, "workspace.list": names, "sandbox.list": []}
