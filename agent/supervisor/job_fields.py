"""What a request for a job may say. The front end has checked it by the contract; whoever asks inside has not."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, Optional, Tuple

from agent.shared.errors import InvalidParams

ID = "[0-9a-f]{12}"
NAME = r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,64}"
SIZE_MAX, TIMEOUT_MAX_S = 65535, 31536000.0


def _is_text(value: Any, pattern: str) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _is_number(value: Any, highest: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= highest


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and value != [] and all(isinstance(word, str) for word in value)


def _is_tty(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(name), int) and _is_number(value[name], SIZE_MAX) for name in ("rows", "cols")
    )


def _is_environment(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


# Name, whether it may be missing, what it must be, and how that is said.
FIELDS: Tuple[Tuple[str, bool, Callable[[Any], bool], str], ...] = (
    ("id", False, lambda value: _is_text(value, ID), "must be 12 hexadecimal digits"),
    ("argv", False, _is_words, "must be words"),
    ("cwd", True, lambda value: isinstance(value, str), "must be a directory"),
    ("env", True, _is_environment, "must be texts by name"),
    ("stdin", True, lambda value: value in ("none", "stream"), "must be none or stream"),
    ("tty", True, _is_tty, "must have rows and cols"),
    ("name", True, lambda value: _is_text(value, NAME), "must be 1 to 64 printable characters"),
    ("by", True, lambda value: _is_text(value, NAME), "must be a name"),
    ("timeout_s", True, lambda value: _is_number(value, TIMEOUT_MAX_S), "must be a number of seconds"),
)


def check(fields: Dict[str, Any]) -> None:
    """Raise InvalidParams for the first field that is not what it must be."""
    for name, is_optional, is_right, problem in FIELDS:
        value: Optional[Any] = fields.get(name)
        if not (is_right(value) if value is not None else is_optional):
            raise InvalidParams.of(name, problem)
