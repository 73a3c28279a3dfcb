"""reference.md has every variable and file, troubleshooting.md every code of the doctor; neither has others."""

from __future__ import annotations

import re
import subprocess

import pytest

from codesmith.bootstrap import layout
from codesmith.doctor.finding import CODES
from tests.docs.pages import TOP, in_first_columns

TROUBLE = (TOP / "docs" / "troubleshooting.md").read_text()
VARIABLE = re.compile(r"\bCODESMITH_[A-Z_]*[A-Z]\b")
SOURCES = ("codesmith", "agent", "tasks.py", "Makefile", "tests", "bench", "examples")


def test_every_variable_of_the_code_is_in_the_table_and_no_other() -> None:
    listed = subprocess.run(["git", "ls-files", *SOURCES], cwd=TOP, check=True, capture_output=True, text=True).stdout
    files = [TOP / name for name in listed.split() if not name.endswith((".md", ".png"))]
    used = {name for file in files if file.is_file() for name in VARIABLE.findall(file.read_text(errors="replace"))}
    assert {name for name in in_first_columns() if name.startswith("CODESMITH_")} == used


PLACES = sorted(
    {one.path for one in layout.DIRECTORIES}
    | {one.path for one in layout.SOCKETS.values()}
    | {layout.LEDGER, layout.NODE, layout.UIDS, layout.CURRENT, layout.PREVIOUS, layout.FALLBACK, layout.LOCK}
    | {*layout.STORES, *layout.UNIT_LINKS, layout.HELPER_SOCKET_FILE}
)


@pytest.mark.parametrize("path", PLACES)
def test_each_place_on_a_node_is_in_the_table(path: str) -> None:
    names = {row.replace("*", "") for row in in_first_columns()}
    folder, _, name = path.rpartition("/")
    beside = any(row.startswith(f"{folder}/") for row in names)
    assert (name in names and beside) or any(path.startswith(row) or row.startswith(f"{path}/") for row in names)


def entries() -> dict[str, str]:
    """Return the entries about codes: code, then text."""
    found = re.split(r"^### `([a-z.-]+)`\n", TROUBLE, flags=re.M)
    return dict(zip(found[1::2], found[2::2], strict=True))


def test_every_code_of_the_doctor_has_its_entry_in_their_order() -> None:
    assert list(entries()) == sorted(CODES)


@pytest.mark.parametrize("code", sorted(CODES))
def test_an_entry_says_what_is_right_and_what_to_do(code: str) -> None:
    right, _, rest = entries()[code].strip().partition("\n\n")
    assert right == CODES[code]
    assert len(rest) > 60
    assert "`" in rest  # something to type, or to look at
