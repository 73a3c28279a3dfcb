"""What is wrong with a command line, and what was meant: unknown words, words too many, options without a meaning."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from invoke.collection import Collection
from invoke.exceptions import ParseError
from invoke.parser.context import ParserContext

from codesmith.errors import AgentRefused, BadArgument, CodeSmithError, error_to_dict

# Options of Invoke for commands that its tasks run by `c.run`; no task of CodeSmith does.
MEANINGLESS = (
    "command-timeout", "echo", "hide", "no-dedupe", "prompt-for-sudo-password", "pty", "warn-only", "write-pyc",
)  # fmt: skip


def usage_error(problem: str, hint: str = "") -> ParseError:
    """Return the error that stops parsing, in CodeSmith's form; Invoke prints it and exits with 1."""
    return ParseError(f"error: {problem}" + (f"\nhint: {hint}" if hint else ""))


def error_as_json(error: CodeSmithError, hint: str) -> str:
    """Return an error for programs, in one line; `rpc` has what the agent called it."""
    told = {**error_to_dict(error), "hint": hint, "exit_code": error.code}
    told.pop("secret", None)
    if isinstance(error, AgentRefused):
        told["rpc"] = {"code": error.rpc_code, "kind": error.rpc_kind}
    return json.dumps({"error": told})


def as_asked(error: ParseError, argv: Sequence[str]) -> ParseError:
    """Return an error of the command line in the form that it asks for: JSON with --json."""
    words = argv[: argv.index("--")] if "--" in argv else argv
    if "--json" not in words:
        return error
    problem, _, hint = str(error).removeprefix("error: ").partition("\nhint: ")
    return ParseError(error_as_json(BadArgument(problem), hint))


def close(word: str, known: Iterable[str], most: int = 1) -> list[str]:
    """Return what `word` could have been, the likeliest first."""
    import difflib  # of a mistake alone

    return difflib.get_close_matches(word, list(known), most)


def meaningless(core: ParserContext, name: str) -> ParseError | None:
    """Return the error about an option of Invoke that means nothing here."""
    for option in MEANINGLESS:
        argument = core.args.get(option)
        if argument is not None and argument.value != argument.default:
            return usage_error(f"--{option} has no meaning here: no task runs commands by Invoke", f"{name} help")
    return None


def rewritten(error: ParseError, name: str, words: Sequence[str], collection: Collection) -> ParseError:
    """Return Invoke's error in CodeSmith's form, with a next step for the program called `name`."""
    tasks = sorted(collection.task_names)
    text = str(error)
    if text.startswith("error:"):
        return error
    if not text.startswith("No idea what "):
        # A name may look like a task: a workspace may be called demo.
        named = next((task for task in words if task in tasks), "")
        return usage_error(plain(text), f"{name} {named} --help" if named else "")
    word = text.removeprefix("No idea what ").removesuffix(" is!").strip("'\"")
    place = next((at for at, one in enumerate(words) if one == word or one.startswith(f"{word}=")), 0)
    before = [task for task in words[:place] if task in tasks]
    if before:
        # A name may look like a task: `inv workspace.exec demo ls` is about the first.
        return unexpected_word(before[0], word, name, collection)
    return unknown_task(word, words[place + 1 :], name, collection)


def unknown_task(word: str, after: Sequence[str], name: str, collection: Collection) -> ParseError:
    """Return the error about the first word of a command line, if it names no task."""
    if word.startswith("-"):
        return usage_error(f"no option {word}", f"{name} help")
    return usage_error(f"no task {word!r}", meant(word, after, name, collection))


def meant(word: str, after: Sequence[str], name: str, collection: Collection) -> str:
    """Return what could have been meant: `workspace list`, `list`, `workspac`, `workspce.list`; else how to look."""
    tasks, spaces = sorted(collection.task_names), sorted(collection.collections)
    dotted = f"{word}.{after[0]}" if after else ""
    ending = [task for task in tasks if task.endswith(f".{word}")]
    if dotted in tasks:
        return f"did you mean: {name} {' '.join([dotted, *after[1:]])}"
    if ending:
        return "did you mean: " + " or ".join(f"{name} {task}" for task in ending[:3]) + (", ..." * (len(ending) > 3))
    space = [word] if word in spaces else [] if "." in word else close(word, spaces)
    if space:
        return f"did you mean: {name} help {space[0]}"
    return f"did you mean: {name} {close(word, tasks)[0]}" if close(word, tasks) else f"{name} help"


def plain(text: str) -> str:
    """Return what Invoke says of something that is missing in the words of the help."""
    if missing := re.fullmatch(r"'(.+)' did not receive required positional arguments: (.+)", text):
        names = [name.upper() for name in re.findall(r"'(.+?)'", missing[2])]
        return f"{missing[1]} needs {' and '.join(names)}"
    if missing := re.fullmatch(r"Flag (\S+) needed value and was not given one!", text):
        return f"{missing[1]} needs a value"
    return text


def unexpected_word(task: str, word: str, name: str, collection: Collection) -> ParseError:
    """Return the error about a word after a task that takes no further words."""
    hint = f"see what it takes: {name} {task} --help"
    if word.startswith("-"):
        return unknown_option(task, word, options_of(collection[task]), name)
    if task == "workspace.exec":
        hint = f"put the command behind --: {name} workspace.exec NAME -- {word}"
    elif word in collection.task_names and "." in word:
        hint = f"run it by itself: {name} {word}"
    elif takes_nodes(collection[task]):
        hint = f"name a node with --node: {name} {task} --node {word}"
    return usage_error(f"{task} does not take {word!r}", hint)


def unknown_option(task: str, word: str, known: Sequence[str], name: str) -> ParseError:
    """Return the error about an option that a task does not have."""
    option = word.partition("=")[0]
    likely = close(option, known)
    hint = f"did you mean: {likely[0]}" if likely else f"see what it takes: {name} {task} --help"
    return usage_error(f"{task} has no option {option}", hint)


def options_of(task: Any) -> list[str]:
    """Return the options of a task as they are typed."""
    return [f"--{one.names[0]}" for one in task.get_arguments() if not one.positional]


def takes_nodes(task: Any) -> bool:
    """Tell whether a word after the task is probably a node: it takes --node, and no positional parameter."""
    arguments = task.get_arguments()
    return any(one.name == "node" for one in arguments) and not any(one.positional for one in arguments)
