"""How a function becomes an OpenRPC method: a name, the errors it may answer, whether it changes the node."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, NamedTuple, Optional, Tuple, Type

from agent.errors import AgentError


class Method(NamedTuple):
    """One entry of the contract. `function` takes the context first, then the parameters by name."""

    name: str
    function: Callable[..., Any]
    errors: Tuple[Type[AgentError], ...]
    mutates: bool
    is_resumable: bool
    example: Dict[str, Any]
    settle: Optional[Callable[..., Any]]
    secrets: Tuple[str, ...]


def method(
    name: str,
    *,
    errors: Iterable[Type[AgentError]] = (),
    mutates: bool = False,
    is_resumable: bool = True,
    example: Dict[str, Any],
    settle: Optional[Callable[..., Any]] = None,
    secrets: Tuple[str, ...] = (),
) -> Callable[[Callable[..., Any]], Method]:
    """Declare an OpenRPC method. `example` has params and result.

    A method that mutates leaves an audit record and honours request_id. A resumable one is journaled before its first
    side effect and run again at the next start if it did not end; so its second run must complete the first.

    With `settle` it may take long: other changes go on meanwhile, and one that was cut off is not run again but
    settled, with the same parameters. `secrets` are parameters that are never written down; only a method with `settle`
    may have some.
    """

    def declare(function: Callable[..., Any]) -> Method:
        return Method(name, function, tuple(errors), mutates, mutates and is_resumable, example, settle, secrets)

    return declare
