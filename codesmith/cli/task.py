"""The `task` decorator: Invoke's, without its traps.

What differs: options take their type from the annotation, lists from `list[str]`. A bad value is reported in one
sentence. `--help` works after a positional parameter, and an option never becomes the value of one. A task that changes
things and cannot show its plan refuses `--dry`. The words after `--` are a command line. An unexpected exception is one
line and a log file. Options that several tasks share are keys of a TypedDict: `**choice: Unpack[Choice]`. A Python
caller gets the plain function: its return value, its exceptions, and its parameters in `help()`.
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

from invoke.exceptions import Exit, Failure
from invoke.parser.argument import Argument
from invoke.tasks import Task as InvokeTask

from codesmith.cli import crash_report, early_interrupt, output
from codesmith.cli.cells import escape
from codesmith.cli.checked_arguments import (
    CheckedArgument,
    HelpArgument,
    OptionalArgument,
    RemainderArgument,
    SeveralArgument,
    VerbatimArgument,
)
from codesmith.cli.hints import completed, program
from codesmith.cli.usage_errors import error_as_json, usage_error
from codesmith.errors import AgentRefused, BadArgument, CodeSmithError
from codesmith.secrets import SHARED, SecretRequest

if TYPE_CHECKING:
    from invoke.context import Context

    from codesmith.cli.help_pages import TaskPage

P = ParamSpec("P")
R = TypeVar("R")

Tell = Callable[[CodeSmithError], CodeSmithError]
Live = Callable[[Any, Tell], Any]
KINDS: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool, "list[str]": list}
FORMS = ("table", "json", "yaml", "name")
# The help of arguments that many tasks share; a task may replace it by its own.
COMMON_HELP = {
    "node": "Node name from nodes.yaml (default: CODESMITH_NODE, then `default:` there, then the only node).",
    "all": "Every node of nodes.yaml.",
    "jobs": "How many nodes to work on at once (default: 16).",
    "file": "Another registry file (default: CODESMITH_NODES, then nodes.yaml here or above).",
    "json": "Print JSON instead of a table or tab-separated lines; errors too, as the last line of stderr.",
    "output": "The form of the result: name is a name for each line (default: a table on a terminal, else tabs).",
    "watch": "Look every 2 s and redraw the terminal, until Ctrl-C (default: look once).",
    "resume": "Go on with the nodes of the last run that are not done, after Ctrl-C or a failure (default: a new run).",
    "yes": "Delete without asking (default: say what would be lost, and ask on the terminal).",
    "sudo_password_file": "A file whose first line is the password for sudo; - is standard input "
    "(default: ask on the terminal if sudo needs one).",
}
# The same for arguments that may be repeated.
REPEATABLE_HELP = {
    "node": "Node name from nodes.yaml; repeatable (default: CODESMITH_NODE, then `default:`, then the only node).",
    "tag": "Every node with this tag; repeatable.",
}
SHARED_OPTIONS = {*COMMON_HELP, *REPEATABLE_HELP} - {"resume", "yes"}


class Task(InvokeTask[Any], Generic[P, R]):
    """An Invoke task that keeps its types for Python callers."""

    def __init__(
        self,
        body: Callable[Concatenate[Any, P], R],
        *,
        choices: Mapping[str, Sequence[str]] | None = None,
        remainder: str = "",
        several: str = "",
        optional: Sequence[str] = (),
        harmless: bool = False,
        plans: bool = False,
        exit_code: Callable[[Any], int] | None = None,
        verbatim: Sequence[str] = (),
        after_cancel: str = "",
        watchable: bool = False,
        live: Live | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("auto_shortflags", False)
        # Invoke would read the signature for its positional parameters, of every task; `get_arguments` knows them.
        super().__init__(body, positional=(), **kwargs)
        self.choices, self.remainder, self.several = dict(choices or {}), remainder, several
        self.harmless, self.plans, self.exit_code = harmless, plans, exit_code
        self.verbatim, self.optional = tuple(verbatim), tuple(optional)
        self.after_cancel, self.watchable, self.live = after_cancel, watchable, live

    @property
    def full_name(self) -> str:
        """Return the name as typed: NAMESPACE.TASK after the module and the task, or TASK where both have one name."""
        namespace = self.__module__.rpartition(".")[2]
        name = self.name.replace("_", "-")
        return str(name if namespace == name else f"{namespace}.{name}")

    def __getattr__(self, name: str) -> Any:
        # Computed when asked for: `inspect.signature` looks for it, a command line does not.
        if name != "__signature__":
            raise AttributeError(name)
        context = inspect.Parameter("c", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        result = inspect.signature(self.body).return_annotation
        parameters = sorted((one for _, one in self.parameters()), key=lambda one: one.kind)
        return inspect.Signature([context, *parameters], return_annotation=result)

    def __get__(self, instance: object, owner: object = None) -> Task[P, R]:
        # With this method `help()` shows a task as it shows a function: its parameters and its docstring.
        return self

    def __deepcopy__(self, memo: object) -> Task[P, R]:
        # Invoke deep-copies every task into each collection. A shallow copy is enough: a task never changes.
        return copy.copy(self)

    def __call__(self, c: Context, *args: P.args, **kwargs: P.kwargs) -> R:
        # Only the parser passes `help`: it tells a command line from a Python call, as no task has such a parameter.
        if kwargs.pop("help", None) is None:
            self.refuse_empty(kwargs)
            return self.run_body((c, *args), kwargs)
        self.take_form(kwargs)
        return self.run_from_command_line((c, *args), kwargs, is_watched=bool(kwargs.pop("watch", False)))

    def take_form(self, kwargs: dict[str, Any]) -> None:
        """Take --output, which only a command line has; json and yaml are for programs, as --json is."""
        form = kwargs.pop("output", None)
        if kwargs.get("json") and form not in (None, "json"):
            raise usage_error(f"--json and --output {form} exclude each other", f"{program()} {self.full_name} --help")
        if form in output.TEXTS:
            kwargs["json"] = True
        output.FORM.name = form or ""

    def refuse_empty(self, kwargs: Mapping[str, Any]) -> None:
        """Refuse an empty list from a Python caller; it would mean the default, or every node."""
        empty = [name for name, kind in self.kinds().items() if kind is list and kwargs.get(name) in ([], ())]
        if empty:
            raise BadArgument(f"{self.full_name}: {empty[0]} is an empty list", hint=f"leave {empty[0]} out")

    def run_body(self, args: Any, kwargs: Any) -> R:
        """Call the function, after the checks that a Python call and a command line share."""
        if args and not self.harmless and not self.plans and args[0].config.run.dry:
            problem = f"{self.full_name} cannot be tried with --dry; nothing was done"
            raise CodeSmithError(problem, hint="a task that shows its plan instead: inv --dry node.prepare")
        unknown = set(kwargs) - set(self.kinds())
        if unknown:  # a body that takes a TypedDict would ignore them
            raise TypeError(f"{self.full_name} takes no {', '.join(sorted(unknown))}")
        result: R = super().__call__(*args, **self.listed(kwargs))
        return result

    def run_from_command_line(self, args: Any, kwargs: Any, *, is_watched: bool) -> R:
        """Turn every exception into `Exit` or one of Invoke's failures; all others would end in a traceback."""
        SHARED.ask = _ask_secret
        try:
            early_interrupt.disarm()
            tell = partial(self.told, kwargs=kwargs)
            look = partial(self.run_body, args, kwargs)
            result: R
            if self.live and self.is_live(kwargs):
                result = self.live(kwargs, tell)
            else:
                result = _watch(look, tell) if is_watched else look()
        except CodeSmithError as error:
            if isinstance(error, AgentRefused) and error.is_about_params:
                from codesmith.cli import parameter_words

                error = parameter_words.translated(error, self.get_arguments())
            raise self.told(error, kwargs) from error.__cause__
        except (Exit, Failure):
            raise
        except KeyboardInterrupt as interrupt:
            raise self.cancelled(interrupt, kwargs) from None
        except Exception as error:
            raise self.told(crash_report.crash_report(self.full_name, error), kwargs) from error
        code = self.exit_code(result) if self.exit_code else 0
        if code:
            raise Exit(code=code)
        return result

    def is_live(self, kwargs: Mapping[str, Any]) -> bool:
        """Tell whether the result is for somebody who looks at a terminal, in no form that they asked for."""
        is_asked = kwargs.get("json") or kwargs.get("once") or output.FORM.name
        return not is_asked and sys.stdout is not None and sys.stdout.isatty()

    def cancelled(self, interrupt: KeyboardInterrupt, kwargs: Mapping[str, Any]) -> CodeSmithError:
        """Return the error of Ctrl-C: what goes on at a node, and how to look."""
        from codesmith.cli.cancellation import cancelled

        return self.told(cancelled(interrupt, self.after_cancel), kwargs)

    def told(self, error: CodeSmithError, kwargs: Mapping[str, Any]) -> CodeSmithError:
        """Return the error with the text that is printed: for people, or with --json for programs."""
        hint = self.hint_of(error, kwargs)
        error.message = error_as_json(error, hint) if kwargs.get("json") else escape(error.text_with(hint), keep="\n")
        return error

    def hint_of(self, error: CodeSmithError, kwargs: Mapping[str, Any]) -> str:
        """Return the error's hint, ready to paste: with the node and the file that this command line names."""
        hint = error.hint
        is_about_params = isinstance(error, BadArgument) or (isinstance(error, AgentRefused) and error.is_about_params)
        if is_about_params and (not hint or hint.startswith("rpc.")):
            hint = f"{program()} {self.full_name} --help"
        nodes = kwargs.get("node") or ""
        node = nodes if isinstance(nodes, str) else nodes[0] if len(nodes) == 1 else ""
        return completed(hint, node=node, file=kwargs.get("file") or "")

    def listed(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Accept one word for a list of one: Python callers write `node="web1"`."""
        lists = [name for name, kind in self.kinds().items() if kind is list]
        return {key: [value] if key in lists and isinstance(value, str) else value for key, value in kwargs.items()}

    def kinds(self) -> dict[str, type]:
        """Return the type of each parameter, read from its annotation."""
        return {name: _kind(name, parameter.annotation) for name, parameter in self.parameters()}

    def parameters(self) -> Collection[tuple[str, inspect.Parameter]]:
        """Return the parameters; `**choice: Unpack[Choice]` gives an optional one for each key of that TypedDict."""
        return self._parameters.items()

    @cached_property
    def _parameters(self) -> dict[str, inspect.Parameter]:
        return dict(self._read_parameters())

    def _read_parameters(self) -> Iterator[tuple[str, inspect.Parameter]]:
        for name, parameter in self.argspec(self.body).parameters.items():
            if parameter.kind is not parameter.VAR_KEYWORD:
                yield name, parameter
                continue
            record = self.body.__globals__[parameter.annotation.removeprefix("Unpack[").removesuffix("]")]
            for key, kind in record.__annotations__.items():
                word = getattr(kind, "__forward_arg__", kind)
                default = False if word == "bool" else None
                yield key, inspect.Parameter(key, parameter.KEYWORD_ONLY, default=default, annotation=word)

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:  # noqa: ARG002
        """Return the arguments for Invoke's parser: positional ones first, `--help` last."""
        parameters = dict(self.parameters())
        unknown = set(self.help) - set(parameters)
        if unknown:
            raise ValueError(f"{self.full_name}: help for {', '.join(sorted(unknown))}, which are no parameters")
        arguments = [self.argument(name, parameter) for name, parameter in parameters.items()]
        arguments += self.forms() if "json" in parameters else ()
        arguments.sort(key=lambda argument: not argument.positional)
        options = tuple(f"--{argument.names[0]}" for argument in arguments if not argument.positional)
        for argument in arguments:
            argument.options = options
        return [*arguments, HelpArgument(task_name=self.full_name, show=self.print_help)]

    def forms(self) -> Iterator[CheckedArgument]:
        """Yield the options for the form of a result, which a Python caller does not need."""
        name = self.full_name
        yield CheckedArgument(
            task_name=name, choices=FORMS, names=("output", "o"), default=None, kind=str, help=COMMON_HELP["output"]
        )
        if self.watchable:
            yield CheckedArgument(task_name=name, names=("watch",), default=False, kind=bool, help=COMMON_HELP["watch"])

    def print_help(self) -> None:
        """Print the help of this task on stdout."""
        from codesmith.cli import help_pages

        output.write(help_pages.of_task(self.page()))

    def page(self) -> TaskPage:
        """Return what help and the manual say of this task."""
        from codesmith.cli import help_pages

        arguments = [one for one in self.get_arguments() if not isinstance(one, HelpArgument)]
        return help_pages.page_of(self.full_name, self.__doc__ or "", arguments, common=SHARED_OPTIONS)

    def argument(self, name: str, parameter: Any) -> CheckedArgument:
        """Return the parser's argument for a parameter of the function."""
        is_required = parameter.default is parameter.empty
        kind = _kind(name, parameter.annotation)
        known: dict[str | None, type[CheckedArgument]] = {
            self.remainder: RemainderArgument,
            self.several: SeveralArgument,
            **dict.fromkeys(self.verbatim, VerbatimArgument),
            **dict.fromkeys(self.optional, OptionalArgument),
        }
        names = [one for one, _ in self.parameters()]
        if self.several and not is_required and names.index(name) < names.index(self.several):
            known[name] = OptionalArgument
        klass = known.get(name, CheckedArgument)
        is_several = klass is SeveralArgument
        return klass(
            task_name=self.full_name,
            choices=self.choices.get(name, ()),
            names=(name.strip("_").replace("_", "-"),),
            attr_name=name if "_" in name else None,
            kind=str if is_several else kind,
            default=None if is_required or kind is list else parameter.default,
            positional=is_required or is_several or klass is OptionalArgument,
            help=self.help.get(name) or (REPEATABLE_HELP if kind is list else COMMON_HELP).get(name),
        )


def task(**options: Any) -> Callable[[Callable[Concatenate[Any, P], R]], Task[P, R]]:
    """Make a task of a function whose first parameter is Invoke's Context.

    Options beside Invoke's own: `choices` {parameter: allowed words}; `remainder`, the parameter that takes the words
    after `--`; `several`, the one that takes every further word; `optional`, positional ones that may be left out;
    `harmless`, for a task that changes nothing; `plans`, for one that handles --dry itself; `verbatim`, the parameters
    that take any text, also an empty one; `exit_code`, a function that gives the exit code for a result;
    `after_cancel`, the hint after Ctrl-C; `watchable`, for a look that --watch may repeat;
    `live`, what a command line at a terminal runs in place of the body, unless --once or a form is asked for.
    """

    def inner(body: Callable[Concatenate[Any, P], R]) -> Task[P, R]:
        return Task(body, **options)

    return inner


def _watch(look: Callable[[], R], tell: Tell) -> R:
    from codesmith.cli import watching

    return watching.watch(look, tell)


def _ask_secret(request: SecretRequest) -> str | None:
    from codesmith.cli import prompt

    return prompt.ask(request.prompt)


def _kind(name: str, annotation: Any) -> type:
    word = str(annotation).removesuffix(" | None")
    if word not in KINDS:
        raise TypeError(f"parameter {name}: a task takes {', '.join(KINDS)} (or that `| None`), not {annotation!r}")
    return KINDS[word]
