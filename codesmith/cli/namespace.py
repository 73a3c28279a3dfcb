"""Collections of Invoke that cost no more than the command line needs.

A whole program has a hundred tasks. A command line names one, and that is all that is imported and parsed for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from invoke.collection import Collection
from invoke.parser.context import ParserContext


class Root(Collection):
    """The root collection of a program; to ask whether it is empty imports nothing."""

    def __bool__(self) -> bool:
        return True


class Namespace(Collection):
    # The tasks of a module, which is imported when somebody asks for them. Its docstring is the module's.

    def __init__(self, module: str) -> None:
        # Without `super`: what is not there yet is what `__getattr__` is called for.
        self._module = module

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        vars(self).update(vars(Collection.from_module(import_module(self._module))))
        return object.__getattribute__(self, name)

    def __deepcopy__(self, memo: object) -> Namespace:
        # Invoke copies each collection into its program.
        return self

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]  # that of the module, which lists and help show
        return import_module(self._module).__doc__


class Asked(Collection):
    """What the parser has to know of a collection for one command line: the task that its first word names, if any."""

    def __init__(self, whole: Collection, word: str) -> None:
        super().__init__()
        self._whole, self._word = whole, word

    def to_contexts(self, ignore_unknown_help: bool | None = None) -> list[ParserContext]:
        """Return the arguments of that one task; Invoke reads those of all."""
        try:
            task = self._whole[self._word]
        except (KeyError, ValueError):  # no such task, or a namespace without a default one
            return []
        arguments = task.get_arguments(ignore_unknown_help=ignore_unknown_help)
        return [ParserContext(name=self._word, args=arguments)]
