"""What every handler of the pages does: read a JSON object, work in a thread, answer with what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from codesmith.errors import AgentRefused, CodeSmithError, UnknownName, error_to_dict

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]


async def in_thread(work: Callable[[], T]) -> T:
    """Return what `work` returns in a thread of its own, which does not keep the process from its end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast("T", result))

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:  # noqa: BLE001  raised again where the result is awaited
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="rpc", daemon=True).start()
    return await future


async def object_of(request: Request) -> dict[str, Any]:
    """Return the body if it is a JSON object, else an empty one: no handler takes that."""
    try:
        found = json.loads(await request.body())
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def with_error_answers(handler: Handler) -> Handler:
    """Answer with the error of a handler: what is wrong, and what to do."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except AgentRefused as refused:  # an answer, as in JSON-RPC
            return refusal(200, refused)
        except CodeSmithError as error:
            return refusal(404 if isinstance(error, UnknownName) else 409, error)

    return answer


def refusal(status: int, error: CodeSmithError) -> Response:
    """Return the answer with an error; one of the agent keeps its code and data."""
    more = {"code": error.rpc_code, "data": error.data} if isinstance(error, AgentRefused) else {}
    return JSONResponse({"error": {**error_to_dict(error), **more}}, status_code=status)
