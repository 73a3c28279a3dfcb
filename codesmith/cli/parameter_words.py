"""What an agent says of a parameter, in the words of the command line: `--timeout must be ...`, not `timeout_s ...`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from invoke.parser.argument import Argument

from codesmith.errors import AgentRefused, BadArgument, CodeSmithError


def translated(refusal: AgentRefused, arguments: Iterable[Argument]) -> CodeSmithError:
    """Return the error with the names of options; a value that is no good in itself is a bad argument, and not refused.

    Whether a good one fits what is there only the agent can tell: that stays a refusal.
    """
    words = {argument.names[0]: repr(argument) for argument in arguments if argument.names[0] != "argv"}
    errors = refusal.data.get("errors") or []
    if named := re.match(r"([a-z_]+): ", refusal.problem):
        refusal.problem = option(named[1], words) + refusal.problem[named.end(1) :]
    elif errors:
        problems = [f"{option(str(one['field']), words)} {one['problem']}" for one in errors[:3]]
        return BadArgument("; ".join(problems), hint=refusal.hint)
    return refusal


def option(field: str, words: dict[str, str]) -> str:
    """Return how a command line spells the parameter of a method; `words` are those of the task, by name."""
    name = field.replace("_", "-")
    for known in (name, name.removesuffix("-s"), name.removesuffix("s"), f"{name}-file"):
        if known in words:
            return words[known]
    return field
