"""The arguments of a task as Invoke's parser fills them, without its traps."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from invoke.exceptions import Exit, ParseError
from invoke.parser.argument import Argument

from codesmith.cli.hints import program
from codesmith.cli.usage_errors import unknown_option, usage_error

# Options of Invoke that mean something here.
PROGRAM_OPTIONS = ("--dry", "-R", "--list", "-l", "--debug", "-d", "--config", "-f", "--version", "-V")
KIND_WORDS = {int: "a whole number", float: "a number", str: "a text"}


class CheckedArgument(Argument):
    """Refuses values that Invoke accepts silently (pyinvoke/invoke issues 982 and 930), and empty texts."""

    may_be_empty = False
    # The options of its task and those of the program, for what is no value.
    options: tuple[str, ...] = ()

    def __init__(self, *, task_name: str, choices: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.task_name, self.choices = task_name, tuple(choices)
        # Invoke starts a list with [] and takes that for a value: a final `--node` without one would be no error.
        self.raw_value = None

    def __repr__(self) -> str:
        return self.names[0].upper() if self.positional else f"--{self.names[0]}"

    def __deepcopy__(self, memo: object) -> CheckedArgument:
        # Invoke deep-copies every argument for each command line. A shallow copy is enough: values are never mutated.
        twin = self.__class__.__new__(self.__class__)
        twin.__dict__.update(self.__dict__)
        return twin

    def set_value(self, value: Any, cast: bool = True) -> None:
        if self.positional and isinstance(value, str) and value.startswith("-"):
            raise self.refuse_option(value)
        if isinstance(value, str) and not value.strip() and not self.may_be_empty:
            raise usage_error(f"{self!r} is empty", f"{program()} {self.task_name} --help")
        try:
            super().set_value(value, cast)
        except ValueError:
            raise self.refuse(value, KIND_WORDS.get(self.kind, self.kind.__name__)) from None
        if self.choices and value not in self.choices:
            raise self.refuse(value, f"one of {', '.join(self.choices)}")
        if self.kind is float and not -1e15 < float(self._value or 0) < 1e15:
            raise self.refuse(value, KIND_WORDS[float])

    def refuse_option(self, word: str) -> ParseError:
        """Return the error for an option where the value of a positional parameter is due."""
        if word in PROGRAM_OPTIONS:
            hint = f"options of the program go before the task: {program()} {word} {self.task_name}"
            return usage_error(f"{self.task_name} needs {self.names[0].upper()}, not {word!r}", hint)
        return unknown_option(self.task_name, word, self.options, program())

    def refuse(self, value: Any, expected: str) -> ParseError:
        """Return the error for a value that is not what the argument takes."""
        return usage_error(f"{self!r} takes {expected}, not {value!r}", f"{program()} {self.task_name} --help")


class HelpArgument(CheckedArgument):
    """`TASK --help`: shown as soon as it is parsed, before Invoke can complain about a missing positional parameter."""

    def __init__(self, *, task_name: str, show: Callable[[], None]) -> None:
        super().__init__(task_name=task_name, names=("help", "h"), kind=bool, default=False, help="Show this help.")
        self.show = show

    def set_value(self, value: Any, cast: bool = True) -> None:  # noqa: ARG002  Invoke's signature
        self.show()
        raise Exit(code=0)


class RemainderArgument(CheckedArgument):
    """The words after `--`, unchanged (Invoke joins them into one string)."""

    may_be_empty = True

    @property
    def value(self) -> list[str]:
        return list(self._value or words_after_dashes())

    @value.setter
    def value(self, word: str) -> None:
        self.set_value(word)


class VerbatimArgument(CheckedArgument):
    """Takes any text, also an empty one."""

    may_be_empty = True


class SeveralArgument(CheckedArgument):
    """A positional parameter that takes every further word. Invoke gives one word to one that has no value yet."""

    is_complete = False
    words: tuple[str, ...] = ()

    @property
    def value(self) -> list[str] | None:
        return list(self.words) if self.is_complete else None

    @value.setter
    def value(self, word: str) -> None:
        self.set_value(word)
        self.words = (*self.words, word)


class OptionalArgument(CheckedArgument):
    """A positional parameter that may be left out, also before the several words of another: then it is ""."""

    is_complete = False

    @property
    def value(self) -> str | None:
        return "" if self._value is None and self.is_complete else self._value

    @value.setter
    def value(self, word: str) -> None:
        self.set_value(word)


def words_after_dashes() -> list[str]:
    """Return the words after the first `--` of the command line, unchanged."""
    words = sys.argv[1:]
    return words[words.index("--") + 1 :] if "--" in words else []
