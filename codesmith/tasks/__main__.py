"""Write what can be typed, for completion: `python -m codesmith.tasks`; `--check` only says if it is stale."""

from __future__ import annotations

import json
import sys

from codesmith.completion import table
from codesmith.tasks import root


def main() -> None:
    """Write table.json; with `--check`, only compare it and exit with 1 if it is stale."""
    text = json.dumps(table.build(root()), indent=1) + "\n"
    is_current = table.TARGET.is_file() and table.TARGET.read_text() == text
    if is_current:
        return
    if "--check" in sys.argv[1:]:
        sys.stderr.write(f"error: {table.TARGET} does not match the tasks\nhint: make api\n")
        raise SystemExit(1)
    table.TARGET.write_text(text)


if __name__ == "__main__":
    main()
