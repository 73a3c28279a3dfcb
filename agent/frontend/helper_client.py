"""The front end's client of the helper: one connection, one verb, one reply. systemd starts the helper on demand."""

from __future__ import annotations

import socket
import time
from typing import Any, Dict, Optional

from agent.shared import framing
from agent.shared.errors import AgentError, InUse, ReadOnly
from agent.shared.names import HELPER_SOCKET

REPLY_GRACE_S = 120.0


class HelperSilent(InUse):
    """The helper ended before its reply: it is not known how far it came."""

    is_pending = True


class Helper:
    """Calls verbs of the helper; `damage` says why its ledger is read-only, if its last reply said so."""

    def __init__(self, path: str = HELPER_SOCKET) -> None:
        self.path, self.damage = path, ""

    def call(
        self, verb: str, *, reply_timeout_s: float = REPLY_GRACE_S, descriptor: Optional[int] = None, **arguments: Any
    ) -> Dict[str, Any]:
        """Return the verb's result, or raise the AgentError that the helper raised; HelperSilent without a reply."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(reply_timeout_s)
            try:
                connection.connect(self.path)
                framing.send(connection, {"verb": verb, "arguments": arguments}, descriptor)
                reply = framing.receive(connection, framing.REPLY_MAX)
            except OSError as error:
                raise HelperSilent(
                    f"the privileged helper does not answer ({error}); the change will be completed or undone",
                    hint="try again; `inv node.logs` shows why",
                ) from None
        self.damage = ""
        if "error" in reply:
            refusal = AgentError.from_dict(reply["error"])
            self.damage = refusal.problem if isinstance(refusal, ReadOnly) else ""
            raise refusal
        result: Dict[str, Any] = reply["result"]
        return result


class LimitedHelper(Helper):
    """Calls verbs that only look, with one time for all of them: a helper that does not start is waited for once."""

    def __init__(self, helper: Helper, within_s: float) -> None:
        super().__init__(helper.path)
        self.damage, self._helper, self._deadline = helper.damage, helper, time.monotonic() + within_s

    def call(
        self, verb: str, *, reply_timeout_s: float = REPLY_GRACE_S, descriptor: Optional[int] = None, **arguments: Any
    ) -> Dict[str, Any]:
        """Return the verb's result; HelperSilent when the time for all, which may all go into its start, is over."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise HelperSilent("the privileged helper does not answer", hint="`inv node.logs` shows why")
        try:
            return self._helper.call(verb, reply_timeout_s=left, descriptor=descriptor, **arguments)
        except HelperSilent as silence:  # nothing was to be changed
            raise HelperSilent(silence.problem.partition(";")[0], hint="`inv node.logs` shows why") from None
        finally:
            self.damage = self._helper.damage
