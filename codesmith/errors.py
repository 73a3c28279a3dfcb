"""The errors that stop a task, each with what the user can do about it.

Every error says what failed and why (`problem`), and what to do next (`hint`, a command to paste). The exit codes of
the command line: 1 error, 2 cancelled, 3 no such name, 4 authentication or host key, 5 unreachable, 6 refused by the
agent, 7 a plan is not empty, 124 it lasts longer than one wanted to wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from codesmith.late_mock import import_invoke

import_invoke()

from invoke.exceptions import Exit  # noqa: E402  after import_invoke


class CodeSmithError(Exit):
    """Anything that stops a task and that the user can act on."""

    exit_code = 1
    # The problem is a limit of the Python SSH library; OpenSSH's client may succeed.
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
        """The class name, by which a forwarder names this error to another process."""
        return type(self).__name__


class BadArgument(CodeSmithError):
    """An invalid value on the command line; without a hint, the next step is the task's help."""


class Cancelled(CodeSmithError):
    """The user answered no, or pressed Ctrl-C."""

    exit_code = 2


class UnknownName(CodeSmithError):
    """Nothing has this name."""

    exit_code = 3


class UnknownNode(UnknownName):
    """The name is not in nodes.yaml."""

    @classmethod
    def named(cls, name: str, known: Iterable[str], registry: str = "nodes.yaml", *, likely: str = "") -> UnknownNode:
        """Return the error for `name`, with the names that exist and the one that could have been meant."""
        look = "list them with `inv node.list`, or add one with `inv node.add NAME --host HOST`"
        return cls(
            f"no node {name!r} in {registry} (known: {', '.join(known) or 'none'})",
            hint=f"did you mean {likely}? Else {look}" if likely else look,
        )


class BadRegistry(CodeSmithError):
    """nodes.yaml has a mistake or cannot be written; the problem names file, line, key and what is expected."""


class BadTemplate(CodeSmithError):
    """A template has a mistake or cannot be read; the problem names file, line, key and what is expected."""


class AuthenticationFailed(CodeSmithError):
    """sshd refused the login."""

    exit_code = 4


class AboutSecret(AuthenticationFailed):
    """A login needs a secret of the operator; `secret` describes it as plain data (secrets.SecretRequest)."""

    def __init__(self, problem: str, *, hint: str = "", secret: Mapping[str, str] | None = None) -> None:
        self.secret = dict(secret or {})
        super().__init__(problem, hint=hint)


class SecretNeeded(AboutSecret):
    """The login is impossible without the secret, and was not tried."""


class SecretRefused(AboutSecret):
    """The secret was tried once, and is wrong."""


class HostKeyUnknown(CodeSmithError):
    """The node's host key is not in any known_hosts file."""

    exit_code = 4


class HostKeyChanged(CodeSmithError):
    """The node shows a host key that is not the pinned one."""

    exit_code = 4


class Unreachable(CodeSmithError):
    """No connection: no address, no route, no answer, or a stopped agent."""

    exit_code = 5


class LabNodeDown(Unreachable):
    """The lab node does not exist or is switched off."""


class Hanging(CodeSmithError):
    """The forwarder or the agent runs and does not answer; the hint ends or restarts it."""


# A placeholder in a hint for the command that failed; the command line replaces it.
THIS_COMMAND = "inv ..."


class CallLost(Unreachable):
    """The answer to a call did not arrive, so it may or may not have been carried out.

    Repeating it is safe: a read changes nothing, and a change with the same `request_id` is not done twice.
    """

    def __init__(self, problem: str, *, hint: str = "", request_id: str = "") -> None:
        self.request_id = request_id
        super().__init__(problem, hint=hint)


class StreamLost(Unreachable):
    """The connection to a running command ended before the command did, or was dropped here."""


class Interruption(KeyboardInterrupt):
    """Ctrl-C whose consequences are known: what is ended or goes on (`problem`), and how to look (`hint`)."""

    def __init__(self, problem: str, *, hint: str = "") -> None:
        self.problem, self.hint = problem, hint
        super().__init__(problem)


class CallInterrupted(KeyboardInterrupt):
    """Ctrl-C while a change was under way at a node, which goes on with it: `node`, `method`, `params`."""

    def __init__(self, node: str, method: str, params: Mapping[str, Any]) -> None:
        self.node, self.method, self.params = node, method, dict(params)
        super().__init__()


class NotPrepared(CodeSmithError):
    """The node answers SSH but has no CodeSmith agent."""

    exit_code = 5


class WrongNode(CodeSmithError):
    """The agent that answers belongs to another node."""

    exit_code = 4


class Unsupported(CodeSmithError):
    """The node, or this machine, lacks something that CodeSmith cannot install."""


class LookFailed(CodeSmithError):
    """Reading the state of a node failed before the end: the rest is unknown."""


class StepFailed(CodeSmithError):
    """A step of a plan failed on the node."""


class Unproven(StepFailed):
    """Nobody saw the end of the steps: they may be done, or another command has changed the node meanwhile."""


class PlanNotEmpty(CodeSmithError):
    """`--plan` found something to do."""

    exit_code = 7


class StillRuns(CodeSmithError):
    """Something lasts longer than one wanted to wait; the exit code is that of timeout(1)."""

    exit_code = 124


class AgentRefused(CodeSmithError):
    """The agent answered a call with an error; `rpc_code`, `rpc_kind` and `data` come from the answer.

    `kind` is the name of this class; `rpc_kind` is the agent's word.
    """

    exit_code = 6

    def __init__(self, problem: str, *, code: int, data: Mapping[str, Any] | None = None) -> None:
        self.rpc_code, self.data = code, dict(data or {})
        if self.rpc_kind == "not_found":
            self.exit_code = UnknownName.exit_code  # for a script both mean "no such name"
        super().__init__(problem, hint=str(self.data.get("hint", "")))

    @property
    def is_about_params(self) -> bool:
        """Tell whether the agent refused a parameter (JSON-RPC: invalid params)."""
        return self.rpc_code == -32602

    @property
    def rpc_kind(self) -> str:
        """The kind of the refusal: not_found, already_exists, in_use, ..."""
        return str(self.data.get("kind", ""))


def by_kind(kind: str) -> type[CodeSmithError]:
    """Return the class that `kind` names; CodeSmithError for an unknown word."""
    classes: list[type[CodeSmithError]] = [CodeSmithError]
    for known in classes:
        if known.__name__ == kind:
            return known
        # AgentRefused needs a code: it is built from an answer, never from a word.
        classes.extend(one for one in known.__subclasses__() if one.__name__ != "AgentRefused")
    return CodeSmithError


def error_to_dict(error: CodeSmithError) -> dict[str, Any]:
    """Return the error as `{"kind", "problem", "hint"}`; the kind is its nearest class in this module.

    An error about a secret has `"secret"` too.
    """
    known = next(one for one in type(error).__mro__ if one.__module__ == __name__)
    data = {"kind": known.__name__, "problem": error.problem, "hint": error.hint}
    return {**data, "secret": error.secret} if isinstance(error, AboutSecret) else data


def error_from_dict(data: dict[str, Any]) -> CodeSmithError:
    """Return the error that `error_to_dict` wrote."""
    error = by_kind(data.get("kind", ""))(data.get("problem", "unknown error"), hint=data.get("hint", ""))
    if isinstance(error, AboutSecret):
        error.secret = data.get("secret", {})
    return error


def without_traceback(error: CodeSmithError) -> CodeSmithError:
    """Return a copy without traceback: a traceback keeps channels alive, and grows with each thread that raises it."""
    return error_from_dict(error_to_dict(error))
