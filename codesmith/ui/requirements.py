"""What the pages need: packages of the extra `codesmith[ui]`. Imports nothing of them."""

from __future__ import annotations

from importlib.util import find_spec

from codesmith.errors import Unsupported


def check() -> None:
    """Raise Unsupported, with the command that installs them, if packages are missing."""
    missing = [name for name in ("jinja2", "starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise Unsupported(f"the admin UI needs {', '.join(missing)}", hint="pip install 'codesmith[ui]'")
