"""The base class of all records of the contract."""

from __future__ import annotations

from typing import Any


class Record:
    """A record: two are equal if all fields are. `codesmith.sdk.generate` writes one subclass per schema."""

    __slots__: tuple[str, ...] = ()
    __hash__ = None  # type: ignore[assignment]  # mutable

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain data, ready for JSON."""
        return {name: _plain(getattr(self, name)) for name in self.__slots__}

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def as_parameter(value: object) -> dict[str, Any]:
    """Return a record that is a parameter as JSON has it."""
    if isinstance(value, Record):
        return value.to_dict()
    raise TypeError(f"{type(value).__name__} cannot be a parameter")
