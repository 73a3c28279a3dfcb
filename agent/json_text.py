"""JSON as the API speaks it: read strictly, written by the standard library, long lists some records at a time."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any, Dict, Iterator, List, NamedTuple, NoReturn, Tuple

DIGITS_MAX = 64
RECORDS_AT_ONCE = 100


class Written(NamedTuple):
    """A list as JSON text, in parts: they go into the answer as they are, and are copied once."""

    parts: List[str]


def read(text: str) -> Any:
    """Return a JSON text's value; ValueError for what JSON has no word for, and for two values of one name."""
    if text.startswith("\ufeff"):
        _refuse("a byte order mark")
    return _DECODER.decode(text)


def write(answer: Any, encoding: str = "utf-8") -> str:
    """Return the text of an answer, or of a batch of them. `encoding` is jsonrpclib's, and means nothing."""
    if isinstance(answer, list):
        return f"[{','.join(map(write, answer))}]"
    if isinstance(answer, dict) and isinstance(answer.get("result"), Written):
        rest = _ENCODER.encode({key: value for key, value in answer.items() if key != "result"})
        return f'{rest[:-1]},"result":[{",".join(answer["result"].parts)}]}}'
    return _ENCODER.encode(answer)


def write_list(records: Iterator[Any]) -> Written:
    """Write a list whose records are never all in memory: ten thousand take 15 MB, and longer each."""
    parts: List[str] = []
    while True:
        some = list(islice(records, RECORDS_AT_ONCE))
        if not some:
            return Written(parts)
        parts.append(_ENCODER.encode(some)[1:-1])


class Real(float):
    """A number that was written as one with a fraction or exponent: 1.0 is no integer here."""

    def is_integer(self) -> bool:
        """Never: this is what the check of an integer asks."""
        return False


def _parse_real(text: str) -> float:
    number = Real(text)
    return number if abs(number) != float("inf") else _refuse("a number this large")


def _parse_integer(text: str) -> int:
    # Long ones take quadratic time before Python 3.11.
    return int(text) if len(text) <= DIGITS_MAX else _refuse("a number this long")


def _parse_object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _refuse("the same name twice")


def _refuse(what: str) -> NoReturn:
    raise ValueError(f"{what} is not accepted")


# Made once: json.loads and json.dumps with options make them anew for each call.
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_DECODER = json.JSONDecoder(
    parse_float=_parse_real, parse_int=_parse_integer, parse_constant=_refuse, object_pairs_hook=_parse_object
)
