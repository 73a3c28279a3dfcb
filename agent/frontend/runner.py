"""Runs one method. Every exception becomes an error of the contract."""

from __future__ import annotations

import sqlite3
import sys
import traceback
import uuid
from typing import Any, Callable, Dict, Iterator

from agent.contract.method import Method
from agent.frontend.context import Context
from agent.frontend.jsonrpc import JsonList
from agent.shared.database import as_error
from agent.shared.errors import AgentError, ReadOnly


class InternalError(AgentError):
    """A bug in the agent: the traceback is in the journal, the caller gets a reference to it."""

    code, kind = -32603, "internal"
    is_pending = True

    @classmethod
    def logged(cls, name: str) -> InternalError:
        """Log the exception that is being handled, and return the error that refers to it."""
        reference = uuid.uuid4().hex[:12]
        print(f"internal error {reference} in {name}\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        return cls(f"{name} failed inside the agent", reference=reference, hint="inv node.logs")


class Runner:
    """Calls methods with the context; safe to use from many threads."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def run(self, entry: Method, function: Callable[..., Any], params: Dict[str, Any]) -> Any:
        """Return what `function` returns, an iterator as JSON text. Raises only AgentError."""
        try:
            result = function(self._context, **params)
            return JsonList(result) if isinstance(result, Iterator) else result
        except AgentError:
            raise
        except Exception as error:  # the RPC border; within a change, the error must also say that it is pending
            problem = self.as_error(entry, error)
            if isinstance(error, sqlite3.Error) and entry.mutates:
                problem = problem.as_pending()
            raise problem from error

    def as_error(self, entry: Method, error: Exception) -> AgentError:
        """Return an exception as an error of the contract: a full disk, a damaged store, or a bug."""
        store = self._context.store
        if isinstance(error, sqlite3.OperationalError):
            return as_error(error, store.path)
        if isinstance(error, sqlite3.DatabaseError):
            store.damage = store.damage or str(error)
            return ReadOnly(f"{entry.name} failed: the agent's store is damaged: {error}", hint="inv node.health")
        return InternalError.logged(entry.name)
