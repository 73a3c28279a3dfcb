"""The errors of the contract: refusals that the caller can act on. Any other exception is a bug, and is logged."""

from __future__ import annotations

from typing import Any, Dict, Type

# The hint for a damaged store of the front end.
STORE_HINT = "see `inv node.health`; restore /var/lib/codesmith/state.db from a backup, without state.db-*"


def printable(text: str) -> str:
    """Return a text with control characters, and what is not Unicode (as in file names), written as escapes."""
    return text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


class AgentError(Exception):
    """An error of the contract: a code and a kind for programs, a sentence for people."""

    code = 1000
    kind = "error"
    # The change is half-done, or it is not known how far it came: it will be resumed.
    is_pending = False

    def __init__(self, problem: str, *, hint: str = "", **data: Any) -> None:
        super().__init__(problem)
        self.problem = printable(problem)
        self.data: Dict[str, Any] = {"kind": self.kind, **({"hint": hint} if hint else {}), **data}

    @classmethod
    def from_dict(cls, document: Dict[str, Any]) -> AgentError:
        """Return the error of a JSON-RPC error object."""
        error = by_code(document["code"])(document["message"])
        error.code = document["code"]
        error.data.update(document.get("data") or {})
        error.kind = error.data["kind"]
        error.is_pending = error.is_pending or bool(error.data.get("pending"))
        return error

    def as_pending(self) -> AgentError:
        """Mark the change of this error as pending: it will be resumed. Returns the error."""
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
        """Return the error for one field."""
        return cls(f"{field}: {problem}", errors=[{"field": field, "problem": problem}])


class NotFound(AgentError):
    """No such user, workspace, sandbox or repo; also for accounts that CodeSmith did not create."""

    code, kind = 1001, "not_found"


class AlreadyExists(AgentError):
    """CodeSmith manages an object of this name already."""

    code, kind = 1002, "already_exists"


class NotManaged(AgentError):
    """The Unix name, group or directory exists and CodeSmith did not create it."""

    code, kind = 1003, "not_managed"


class InUse(AgentError):
    """The object owns workspaces, is busy or locked."""

    code, kind = 1004, "in_use"


class WaitedTooLong(InUse):
    """Another change took too long: this one did not begin."""


class Disabled(AgentError):
    """The user is disabled."""

    code, kind = 1005, "disabled"

    @classmethod
    def user(cls, name: str) -> Disabled:
        """Return the error for a user, with the command that enables it."""
        return cls(f"user {name!r} is disabled", hint=f"inv user.enable {name}")


class Unsupported(AgentError):
    """This node cannot do or enforce what the call asks for."""

    code, kind = 1006, "unsupported"


class CommandFailed(AgentError):
    """A system command failed; data has command, exit_code and stderr."""

    code, kind = 1007, "command_failed"


class LimitReached(AgentError):
    """A limit of time, size or number is reached."""

    code, kind = 1008, "limit"


class ReadOnly(AgentError):
    """The store is damaged or of a newer agent; nothing is changed."""

    code, kind = 1009, "read_only"


class OutOfScope(AgentError):
    """The token does not reach this workspace or method."""

    code, kind = 1010, "out_of_scope"


def by_code(code: int) -> Type[AgentError]:
    """Return the class of an error code above; AgentError for any other code."""
    return next((error for error in AgentError.__subclasses__() if error.code == code), AgentError)


def by_kind(kind: str) -> Type[AgentError]:
    """Return the class of an error kind above."""
    return next(error for error in AgentError.__subclasses__() if error.kind == kind)
