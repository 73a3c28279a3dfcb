"""How a function becomes an OpenRPC method: its name, its errors, whether it changes the node."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, NamedTuple, Optional, Tuple, Type

from agent.shared.errors import AgentError, CommandFailed, InUse, LimitReached, NotManaged, ReadOnly, Unsupported

# The errors that every verb of the helper may answer: a directory was replaced, a lock is held, a tool is missing or
# fails, the disk is full, the ledger is damaged.
BY_HELPER = (NotManaged, InUse, Unsupported, CommandFailed, LimitReached, ReadOnly)
# What a token of a workspace may call: what only looks, what works in the workspace, nothing.
SCOPES = ("read", "work", "operator")


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
    is_audited: bool
    fleeting: Tuple[str, ...]
    scope: str

    def for_call(self, params: Any) -> Method:
        """Return the method as these parameters call it: the brief one when the parameter `long_with` is absent."""
        is_brief = not isinstance(params, dict) or params.get(self.long_with) is None
        return self.brief if self.brief is not None and is_brief else self

    def public(self, params: Dict[str, Any]) -> Dict[str, Any]:
        """Return the parameters without the secret ones: only these may be stored."""
        public = {key: value for key, value in params.items() if key not in self.secrets}
        for outer, _, inner in (path.partition(".") for path in self.secrets):
            if inner and isinstance(public.get(outer), dict):
                public[outer] = {key: value for key, value in public[outer].items() if key != inner}
        return public

    def kept(self, reply: Dict[str, Any]) -> Dict[str, Any]:
        """Return a reply as it is stored: without the fleeting fields of its result."""
        if "result" not in reply or not self.fleeting:
            return reply
        return {"result": {**reply["result"], **dict.fromkeys(self.fleeting)}}


def method(
    name: str,
    *,
    scope: str,
    errors: Iterable[Type[AgentError]] = (),
    mutates: bool = False,
    is_resumable: bool = True,
    roll_back: Optional[Callable[..., Any]] = None,
    secrets: Tuple[str, ...] = (),
    makes_room: bool = False,
    long_with: str = "",
    decides: str = "",
    is_audited: bool = False,
    fleeting: Tuple[str, ...] = (),
) -> Callable[[Callable[..., Any]], Method]:
    """Declare an OpenRPC method. Its examples are in `examples/` of this folder.

    scope         which presets of tokens have it: "read" is in both, "work" in the one, "operator" in none
    mutates       it changes the node: it leaves an audit record and honours request_id
    is_resumable  it is journaled before its first side effect, and run again at the next start if it was interrupted;
                  its second run must complete the first
    roll_back     it may take long, so other changes do not wait for it; when interrupted it is not run again, but
                  `roll_back` is called with the same parameters
    secrets       parameters that are never stored (`repo.credential`: a field of one); only with `roll_back`
    long_with     `roll_back` applies only to calls with this parameter; others are resumed like any change
    makes_room    it frees disk space, so it is also carried out on a full disk
    decides       the part of its user or workspace that it sets (owner, labels, keys, state; {user} stands for a
                  parameter); without it, the whole.
                  When it succeeds, it supersedes pending changes of the same part, or of any part of the whole
    is_audited    it changes nothing that is stored, and leaves an audit record all the same
    fleeting      fields of its result that only the first caller gets: they are not stored, and null when the call is
                  repeated
    """

    if scope not in SCOPES:
        raise ValueError(f"{name}: no scope {scope!r}")
    # The errors of every change: another change takes too long, the disk is full, the store is damaged.
    always = (InUse, LimitReached, ReadOnly) if mutates else ()
    declared = (*errors, *(error for error in always if error not in errors))

    def declare(function: Callable[..., Any]) -> Method:
        whole = Method(
            name, function, declared, mutates, mutates and is_resumable, roll_back, secrets, makes_room,
            long_with, decides, None, mutates or is_audited, fleeting, scope,
        )  # fmt: skip
        return whole._replace(brief=whole._replace(roll_back=None)) if long_with else whole

    return declare
