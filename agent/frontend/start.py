"""Start the front end: open its store, and serve each socket that systemd passes."""

from __future__ import annotations

import json
import os
import pkgutil
import socket
import threading
import time
from typing import Iterable

from agent.contract.method import Method
from agent.frontend import door, scoped
from agent.frontend.audit import Audit
from agent.frontend.context import Context
from agent.frontend.dispatch import Dispatcher
from agent.frontend.helper_client import Helper
from agent.frontend.http_server import Server
from agent.frontend.jsonrpc import CachedJson
from agent.frontend.store import Store
from agent.shared.sockets import systemd_sockets

FULL_DISK_PAUSE_S = 1.0
STATE_FILE = "/var/lib/codesmith/state.db"
# The sockets by FileDescriptorName=: the operators', and what serves each of the others.
OPERATORS = "agent"
FACES = {"door": door.serve, "scoped": scoped.serve}


def serve(methods: Iterable[Method]) -> None:
    """Serve `methods` on the socket that systemd passes; does not return."""
    threading.stack_size(512 << 10)
    contract = CachedJson(json.loads(pkgutil.get_data("agent", "openrpc.json") or b"{}"))
    context = Context(Store(STATE_FILE), Helper(), contract)
    dispatcher = Dispatcher(methods, context, Audit(context.audit_file))
    sockets = {name: socket.socket(fileno=descriptor) for name, descriptor in systemd_sockets().items()}
    for name, face in FACES.items():
        if name in sockets:
            threading.Thread(target=face, args=(sockets[name], dispatcher), name=name, daemon=True).start()
    server = Server(sockets[OPERATORS], dispatcher)
    if not context.store.damage:
        known = (context.store.workspaces_with_jobs(), context.store.running_jobs())
        threading.Thread(target=context.job_watch.resume, args=known, name="watch", daemon=True).start()
    if context.store.intents():
        threading.Thread(target=dispatcher.resume, name="resume", daemon=True).start()
    if context.store.has_no_room_to_open:
        threading.Thread(target=_exit_when_there_is_room, args=(context.store,), daemon=True).start()
    server.serve_forever(poll_interval=3600)


def _exit_when_there_is_room(store: Store) -> None:
    """Exit once the disk has room, so that systemd restarts the agent: the store could not be opened before."""
    while not store.has_room():
        time.sleep(FULL_DISK_PAUSE_S)
    os._exit(os.EX_TEMPFAIL)
