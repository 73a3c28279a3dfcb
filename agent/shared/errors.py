"""Refusals the caller can act on; anything else is a bug and stays in the log."""

from __future__ import annotations

from typing import Any, Dict, Type

# What to do about a damaged store of the front end.
STORE_HINT = "see `inv node.health`; restore /var/lib/codesmith/state.db from a backup, without state.db-*"


def printable(text: str) -> str:
    """Return a text in which what steers a terminal, or is no Unicode (as names of files may be), is an escape."""
    return text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


class AgentError(Exception):
    """One line of the error table of the contract: a number and a kind for programs, a sentence for people."""

    code = 1000
    kind = "error"
    # It is not known how far a change came, or it is half-done: it is taken up again.
    is_pending = False

    def __init__(self, problem: str, *, hint: str = "", **data: Any) -> None:
        super().__init__(problem)
        self.problem = printable(problem)
        self.data: Dict[str, Any] = {"kind": self.kind, **({"hint": hint} if hint else {}), **data}

    @classmethod
    def from_dict(cls, told: Dict[str, Any]) -> AgentError:
        """Return the error that a JSON-RPC error object tells of."""
        error = by_code(told["code"])(told["message"])
        error.code = told["code"]
        error.data.update(told.get("data") or {})
        error.kind = error.data["kind"]
        error.is_pending = error.is_pending or bool(error.data.get("pending"))
        return error

    def as_pending(self) -> AgentError:
        """Mark it as of a change that is half-done: it is taken up again."""
        self.is_pending, self.data["pending"] = True, True
        return self

    def to_dict(self) -> Dict[str, Any]:
        """Return the JSON-RPC error object."""
        return {"code": self.code, "message": self.problem, "data": self.data}


class InvalidParams(AgentError):
    """A parameter is missing, unknown or breaks its grammar; data.errors says which field and why."""

    code, kind = -32602, "invalid_params"

    @classmethod
    def of(cls, field: str, problem: str) -> InvalidParams:
        """Refuse one field."""
        return cls(f"{field}: {problem}", errors=[{"field": field, "problem": problem}])


class NotFound(AgentError):
    """No such user, workspace, sandbox or repo; also the answer for accounts that are not ours."""

    code, kind = 1001, "not_found"


class AlreadyExists(AgentError):
    """Ours, and already there."""

    code, kind = 1002, "already_exists"


class NotManaged(AgentError):
    """The Unix name, group or directory exists and CodeSmith did not create it."""

    code, kind = 1003, "not_managed"


class InUse(AgentError):
    """Owns workspaces, is busy or locked."""

    code, kind = 1004, "in_use"


class WaitedTooLong(InUse):
    """Another change has not ended in the time that this one waits for it: nothing was done."""


class Disabled(AgentError):
    """The user is disabled."""

    code, kind = 1005, "disabled"

    @classmethod
    def user(cls, name: str) -> Disabled:
        """Name the user, and what lets it in again."""
        return cls(f"user {name!r} is disabled", hint=f"inv user.enable {name}")


class Unsupported(AgentError):
    """This node cannot do or enforce what was asked for."""

    code, kind = 1006, "unsupported"


class CommandFailed(AgentError):
    """A system tool refused; data has command, exit_code and stderr."""

    code, kind = 1007, "command_failed"


class LimitReached(AgentError):
    """A time, size or count limit."""

    code, kind = 1008, "limit"


class ReadOnly(AgentError):
    """The store is damaged or from the future; nothing is changed."""

    code, kind = 1009, "read_only"


def by_code(code: int) -> Type[AgentError]:
    """Return the class of an error number of the table above; AgentError for another one."""
    return next((found for found in AgentError.__subclasses__() if found.code == code), AgentError)


def by_kind(kind: str) -> Type[AgentError]:
    """Return the class of a kind of the table above."""
    return next(found for found in AgentError.__subclasses__() if found.kind == kind)
