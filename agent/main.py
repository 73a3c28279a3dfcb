"""The commands of agent.pyz."""

from __future__ import annotations

import json
import sys
from typing import Dict, List

from agent import API_VERSION, __version__

USAGE = """\
usage: agent.pyz COMMAND

  agent        serve the API on the socket that systemd passes (without privileges)
  connect HOST PORT [PROXY_PORT]  connect ssh to a host through the proxy of its workspace
  dial [PATH]  connect standard input and output to the agent's socket
  egress DIR   carry what the policy in DIR allows, as the proxy of one workspace, on the socket that systemd passes
  helper       carry out the verbs of the root half on the socket that systemd passes
  job SOCKET   start, show and end jobs inside a workspace: what codesmith-job runs there
  probe        print what a process in the runtime of a workspace sees of its limits, as JSON
  quota DEVICE PROJECT BYTES FORCE  set how much disk a project may use, and print what it uses, as JSON (as root)
  report       print how accounts of users differ from what they should be, and what sshd does with them and must not,
               as JSON (as root; changes nothing)
  supervisor   run what the front end asks for in a workspace, on the socket that systemd passes (as its login)
  version      print version, build and formats of the stores as JSON
"""


def main(arguments: List[str]) -> int:
    """Run one command and return its exit code; 2 for a wrong command line."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    # Imported here: each command loads only what it needs.
    if command == "agent" and not rest:
        _leave_openssl_out()
        from agent.frontend.start import serve
        from agent.methods import METHODS

        serve(METHODS)
    elif command == "helper" and not rest:
        _leave_openssl_out()
        from agent.helper.server import serve as serve_helper

        serve_helper()
    elif command == "egress" and len(rest) == 1:
        _leave_openssl_out()
        from agent.egress.main import main as carry

        return carry(rest[0])
    elif command == "report" and not rest:
        _leave_openssl_out()
        from agent.helper.accounts import policy
        from agent.shared import sshd_door

        print(json.dumps({"accounts": policy.report(), "door": sshd_door.report()}))
    elif command == "probe" and not rest:
        from agent.supervisor.probe import main as probe

        return probe()
    elif command == "quota" and len(rest) == 4:
        from agent.helper.runtime.quotactl import main as limit_disk

        return limit_disk(rest)
    elif command == "supervisor" and not rest:
        from agent.supervisor.main import main as supervise

        return supervise()
    elif command == "job" and rest:
        from agent.supervisor.codesmith_job import main as job

        return job(rest[0], rest[1:])
    elif command == "connect" and len(rest) in (2, 3):
        from agent.connect import connect

        return connect(*rest)
    elif command == "dial" and len(rest) <= 1:
        from agent.dial import dial

        return dial(*rest)
    elif command == "version" and not rest:
        print(json.dumps(_version()))
    else:
        sys.stderr.write(USAGE)
        return 0 if command in ("help", "--help", "-h") else 2
    return 0


def _leave_openssl_out() -> None:
    """Do without libssl and libcrypto: there is no TLS on a Unix socket, and Python's own SHA-256 is enough.

    That saves 5 MB, and milliseconds of each start.
    """
    sys.modules["ssl"] = sys.modules["_hashlib"] = None  # type: ignore[assignment]


def _version() -> Dict[str, object]:
    """Return what `version` prints. An upgrade compares `formats` before it starts an agent on existing stores."""
    import platform

    from agent.frontend import store_file
    from agent.frontend.context import read_build
    from agent.helper.ledger import ledger

    formats = {"state": store_file.LAYOUT.version, "helper": ledger.LAYOUT.version}
    return {
        "agent": __version__,
        "api": API_VERSION,
        "python": platform.python_version(),
        "build": read_build(),
        "formats": formats,
    }
