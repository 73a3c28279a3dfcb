"""What `inv` runs: the tasks of codesmith/tasks."""

import sys

# Invoke forbids bytecode files while it loads tasks; compiling our modules anew takes 35 ms of every run.
sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)

from codesmith.cli import early_interrupt  # noqa: E402

early_interrupt.arm()

from invoke.main import program  # noqa: E402

from codesmith.cli.program import adopt  # noqa: E402
from codesmith.tasks import root  # noqa: E402

adopt(program)
ns = root()
