"""How a function becomes an OpenRPC method: a name, the errors it may answer, whether it changes the node."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, NamedTuple, Optional, Tuple, Type

from agent.shared.errors import AgentError, CommandFailed, InUse, LimitReached, NotManaged, ReadOnly, Unsupported

# What the root half may answer whatever it is asked: a directory of ours that was replaced, a lock that is held, a tool
# that is missing or fails, a full disk, a damaged ledger.
BY_HELPER = (NotManaged, InUse, Unsupported, CommandFailed, LimitReached, ReadOnly)


class Method(NamedTuple):
    """One entry of the contract. `function` takes the context first, then the parameters by name."""

    name: str
    function: Callable[..., Any]
    errors: Tuple[Type[AgentError], ...]
    mutates: bool
    is_resumable: bool
    roll_back: Optional[Callable[..., Any]]
    secrets: Tuple[str, ...]
    makes_room: bool
    long_with: str
    decides: str
    brief: Optional[Method]

    def for_call(self, params: Any) -> Method:
        """Return the method as it is for these parameters: one that takes long only with `long_with` has two sides."""
        is_brief = not isinstance(params, dict) or params.get(self.long_with) is None
        return self.brief if self.brief is not None and is_brief else self

    def public(self, params: Dict[str, Any]) -> Dict[str, Any]:
        """Return the parameters that may be written down."""
        found = {key: value for key, value in params.items() if key not in self.secrets}
        for outer, _, inner in (path.partition(".") for path in self.secrets):
            if inner and isinstance(found.get(outer), dict):
                found[outer] = {key: value for key, value in found[outer].items() if key != inner}
        return found


def method(
    name: str,
    *,
    errors: Iterable[Type[AgentError]] = (),
    mutates: bool = False,
    is_resumable: bool = True,
    roll_back: Optional[Callable[..., Any]] = None,
    secrets: Tuple[str, ...] = (),
    makes_room: bool = False,
    long_with: str = "",
    decides: str = "",
) -> Callable[[Callable[..., Any]], Method]:
    """Declare an OpenRPC method; its examples are in `examples/` of this room.

    A method that mutates leaves an audit record and honours request_id. A resumable one is journaled before its first
    side effect and run again at the next start if it did not end; so its second run must complete the first.

    With `settle` it may take long: other changes go on meanwhile, and one that was cut off is not run again but
    settled, with the same parameters. `secrets` are parameters that are never written down (`repo.credential`: a field
    of one); only a method with `settle` may have some. With `long_with` all that is so for calls which have that
    parameter; others are journaled and run again like any. One that `makes_room` is begun on a full disk too.

    `decides` names the part of its user or workspace that it is about; without, it is about the whole. Done, it makes
    an end of what failed half-way about the same part, or about any part of the whole.
    """

    # What any change may answer: another one takes too long, the disk is full, the store is damaged.
    always = (InUse, LimitReached, ReadOnly) if mutates else ()
    declared = (*errors, *(error for error in always if error not in errors))

    def declare(function: Callable[..., Any]) -> Method:
        whole = Method(
            name, function, declared, mutates, mutates and is_resumable, roll_back, secrets, makes_room,
            long_with, decides, None,
        )  # fmt: skip
        return whole._replace(brief=whole._replace(roll_back=None)) if long_with else whole

    return declare
