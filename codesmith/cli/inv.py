#!python
"""The program `inv` of a checkout: Invoke's own, whose bare `--help` shows the page of the tasks.py that is there.

Invoke answers `inv --help` before it looks for a tasks.py. An editable install puts this file into its environment as
`inv`; the wheel does not, as there `inv` belongs to Invoke alone.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable

from codesmith.late_mock import import_invoke

import_invoke()

from invoke.exceptions import Exit  # noqa: E402  after import_invoke
from invoke.main import program  # noqa: E402
from invoke.program import Program  # noqa: E402

from codesmith.cli import output  # noqa: E402


def main() -> None:
    """Run Invoke's program on the command line in sys.argv."""
    parse_collection = program.parse_collection
    program.parse_collection = lambda: _parse_collection(program, parse_collection)  # type: ignore[method-assign]
    program.run()


def _parse_collection(inv: Program, parse_collection: Callable[[], None]) -> None:
    """Load the tasks, for the page of help too; a tasks.py of somebody else, or none, gets Invoke's page."""
    if inv.args.help.value is not True:
        parse_collection()
        return
    inv.args.help.set_value(None, cast=False)
    with contextlib.suppress(Exit):  # there is no tasks.py
        parse_collection()
    inv.args.help.set_value(True, cast=False)
    if "parse_cleanup" not in vars(inv):  # nobody has called `program.adopt`
        with output.writing(sys.stdout):
            inv.print_help()
        raise Exit(code=0)


if __name__ == "__main__":
    main()
