"""Write what is made of the tasks: the table for completion, the manual. `--check` only says if one is stale."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from codesmith import __version__, paths
from codesmith.cli import man_pages
from codesmith.completion import table
from codesmith.tasks import root


def files() -> Iterator[tuple[Path, str]]:
    """Yield each file of a checkout that is made of the tasks, with its text."""
    yield table.TARGET, json.dumps(table.build(root()), indent=1) + "\n"
    top = paths.checkout()
    if top is not None:
        for name, text in man_pages.pages(root(), __version__).items():
            yield top / "man" / name, text


def main() -> None:
    """Write the files; with `--check`, only compare them and exit with 1 if one is stale."""
    for target, text in files():
        if target.is_file() and target.read_text() == text:
            continue
        if "--check" in sys.argv[1:]:
            sys.stderr.write(f"error: {target} does not match the tasks\nhint: make api\n")
            raise SystemExit(1)
        target.parent.mkdir(exist_ok=True)
        target.write_text(text)


if __name__ == "__main__":
    main()
