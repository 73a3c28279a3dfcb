"""What stops a task and what the user can do about it.

Every error says what and why (`problem`) and what now (`hint`, a command to paste). The exit codes are those of the
command line: 1 error, 2 cancelled, 3 no such name, 4 authentication or host key, 5 unreachable, 6 refused by the agent,
7 a plan is not empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from invoke.exceptions import Exit


class CodeSmithError(Exit):
    """Anything that stops a task and that the user can act on."""

    exit_code = 1
    # The limit is that of the SSH library here: OpenSSH's own client may well get through.
    openssh_may_help = False

    def __init__(self, problem: str, *, hint: str = "") -> None:
        self.problem, self.hint = problem, hint
        super().__init__(self.text_with(hint), code=self.exit_code)
        self.args = (self.message,)

    def text_with(self, hint: str) -> str:
        """Return the text that people read, with `hint` as the next step."""
        return f"error: {self.problem}" + (f"\nhint: {hint}" if hint else "")

    @property
    def kind(self) -> str:
        """The class name: how a forwarder names this error to another process."""
        return type(self).__name__


class BadArgument(CodeSmithError):
    """A value on the command line that cannot be; without a hint the task's help is the next step."""


class Cancelled(CodeSmithError):
    """The user said no, or pressed Ctrl-C."""

    exit_code = 2


class UnknownName(CodeSmithError):
    """The thing named does not exist."""

    exit_code = 3


class UnknownNode(UnknownName):
    """The name is not in nodes.yaml."""

    @classmethod
    def named(cls, name: str, known: Iterable[str], registry: str = "nodes.yaml") -> UnknownNode:
        """Say which names there are."""
        return cls(
            f"no node {name!r} in {registry} (known: {', '.join(known) or 'none'})",
            hint="list them with `inv node.list`, or add one with `inv node.add NAME --host HOST`",
        )


class BadRegistry(CodeSmithError):
    """nodes.yaml cannot be used; the problem names file, line, key and what is expected."""


class AuthenticationFailed(CodeSmithError):
    """sshd refused the login."""

    exit_code = 4


class AboutSecret(AuthenticationFailed):
    """A login and something that only a person knows; `secret` names it as plain data (codesmith.secrets.Wanted)."""

    def __init__(self, problem: str, *, hint: str = "", secret: Mapping[str, str] | None = None) -> None:
        self.secret = dict(secret or {})
        super().__init__(problem, hint=hint)


class SecretNeeded(AboutSecret):
    """Without it there is no way in; nothing was tried with it."""


class SecretRefused(AboutSecret):
    """It was tried, once, and is wrong."""


class HostKeyUnknown(CodeSmithError):
    """The node's host key is not in any known_hosts file."""

    exit_code = 4


class HostKeyChanged(CodeSmithError):
    """The node shows another host key than the pinned one."""

    exit_code = 4


class Unreachable(CodeSmithError):
    """No connection: no address, no route, no answer, or a stopped agent."""

    exit_code = 5


class LabNodeDown(Unreachable):
    """The lab node does not exist or is switched off."""


class Hanging(CodeSmithError):
    """The forwarder, or the agent, is there and does not answer; the hint ends or restarts it."""


# Stands in a hint for the command that failed; the command line, which knows it, writes it out.
THIS_COMMAND = "inv ..."


class CallLost(Unreachable):
    """The answer to a call did not come: whether it was carried out is not known.

    Repeating it is safe: a look changes nothing, and a change with the same `request_id` is not done twice.
    """

    def __init__(self, problem: str, *, hint: str = "", request_id: str = "") -> None:
        self.request_id = request_id
        super().__init__(problem, hint=hint)


class NotPrepared(CodeSmithError):
    """The node answers SSH but has no CodeSmith agent."""

    exit_code = 5


class WrongNode(CodeSmithError):
    """The agent that answers is not the node that was expected."""

    exit_code = 4


class Unsupported(CodeSmithError):
    """The node, or this machine, lacks something that cannot be installed for it."""


class LookFailed(CodeSmithError):
    """A look at a node did not come to its end: nothing is known of what was not seen."""


class StepFailed(CodeSmithError):
    """A step of a plan did not succeed on the node."""


class PlanNotEmpty(CodeSmithError):
    """`--plan` found something to do."""

    exit_code = 7


class AgentRefused(CodeSmithError):
    """The agent answered a call with an error; `rpc_code`, `rpc_kind` and `data` are those of the answer."""

    exit_code = 6

    def __init__(self, problem: str, *, code: int, data: Mapping[str, Any] | None = None) -> None:
        self.rpc_code, self.data = code, dict(data or {})
        if self.rpc_kind == "not_found":
            self.exit_code = UnknownName.exit_code  # to a script both are "no such name"
        super().__init__(problem, hint=str(self.data.get("hint", "")))

    @property
    def is_about_params(self) -> bool:
        """Tell whether a parameter cannot be what it is."""
        return self.rpc_code == -32602

    @property
    def rpc_kind(self) -> str:
        """The word for programs: not_found, already_exists, in_use ..."""
        return str(self.data.get("kind", ""))


def by_kind(kind: str) -> type[CodeSmithError]:
    """Return the class that `kind` names; CodeSmithError itself for a word that is not known."""
    classes: list[type[CodeSmithError]] = [CodeSmithError]
    for found in classes:
        if found.__name__ == kind:
            return found
        # AgentRefused is made from an answer, never from a word.
        classes.extend(one for one in found.__subclasses__() if one.__name__ != "AgentRefused")
    return CodeSmithError


def error_to_dict(error: CodeSmithError) -> dict[str, Any]:
    """Return the error as `{"kind", "problem", "hint"}`; the kind is the nearest class that every process knows.

    One about a secret also names that: `{"secret": {...}}`.
    """
    known = next(one for one in type(error).__mro__ if one.__module__ == __name__)
    data = {"kind": known.__name__, "problem": error.problem, "hint": error.hint}
    return {**data, "secret": error.secret} if isinstance(error, AboutSecret) else data


def error_from_dict(data: dict[str, Any]) -> CodeSmithError:
    """Return the error that `error_to_dict` wrote, with its own class."""
    error = by_kind(data.get("kind", ""))(data.get("problem", "unknown error"), hint=data.get("hint", ""))
    if isinstance(error, AboutSecret):
        error.secret = data.get("secret", {})
    return error


def without_traceback(error: CodeSmithError) -> CodeSmithError:
    """Return the error without its traceback: that would keep channels alive, and grow with each thread raising it."""
    return error_from_dict(error_to_dict(error))
