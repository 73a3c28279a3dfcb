"""The examples of the contract, read when openrpc.json is made and by tests. They are not shipped to a node.

One file per namespace:

    user.create:
      given: [ada]                      # a name from given.yaml, or a call {method, params}, or {node: in words}
      params: {name: ada}
      result: {name: ada, ...}          # the result when `given` is true
      refusals:
      - {error: already_exists, params: {name: ada}, message: "...", data: {hint: "..."}, given: [ada]}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, NamedTuple

FOLDER = Path(__file__).with_name("examples")
Document = Dict[str, Any]


class Refusal(NamedTuple):
    """A call that is refused: when `given` is true, a call with `params` fails with `message` and `data`."""

    error: str
    params: Document
    message: str
    data: Document
    given: List[Document]


class Example(NamedTuple):
    """A call and its result, and calls of the same method that are refused."""

    params: Document
    result: Any
    given: List[Document]
    refusals: List[Refusal]


def read() -> Dict[str, Example]:
    """Return the examples of every method, by name."""
    named: Dict[str, List[Document]] = _load(FOLDER / "given.yaml")
    examples: Dict[str, Example] = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        if path.name != "given.yaml":
            examples.update({name: _example(one, named) for name, one in _load(path).items()})
    return examples


def _example(one: Document, named: Dict[str, List[Document]]) -> Example:
    refusals = [
        Refusal(
            refusal["error"], refusal["params"], refusal["message"], refusal.get("data", {}), _given(refusal, named)
        )
        for refusal in one.get("refusals", [])
    ]
    return Example(one["params"], one["result"], _given(one, named), refusals)


def _given(one: Document, named: Dict[str, List[Document]]) -> List[Document]:
    """Return what comes before the call; a name of given.yaml is replaced by the list it stands for."""
    listed = ([given] if isinstance(given, dict) else named[given] for given in one.get("given", []))
    return [given for some in listed for given in some]


def _load(path: Path) -> Any:
    import yaml

    return yaml.safe_load(path.read_text(encoding="utf-8"))
