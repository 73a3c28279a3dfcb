"""Templates of workspaces: files beside nodes.yaml that say what a new workspace has."""
# ruff: noqa: ARG001  Invoke passes a context to every task

from __future__ import annotations

from typing import Any

from invoke.context import Context

from codesmith import paths
from codesmith.cli import output
from codesmith.cli.task import task
from codesmith.workspace.template import Template

COLUMNS = ("name", "description", "repo", "ports", "file", "error")


class Rows(list[dict[str, Any]]):
    """The rows of a list; `exit_code` is 1 if a template has a mistake."""

    @property
    def exit_code(self) -> int:
        """The exit code for these rows."""
        return int(any("error" in row for row in self))


@task(name="list", harmless=True, exit_code=lambda rows: rows.exit_code)
def list_(c: Context, file: str = "", json: bool = False) -> Rows:
    """Show the templates beside nodes.yaml; exit code 1 if one has a mistake.

    Example: template.list
    """
    from codesmith.workspace import template

    rows = Rows(template.listing(paths.nodes_file(file)))
    shown = list(rows) if json else [{**row, "repo": (row.get("repo") or {}).get("url")} for row in rows]
    output.show(shown, COLUMNS, json=json)
    return rows


@task(help={"name": "The template's name: its file without .yaml."}, harmless=True)
def get(c: Context, name: str, file: str = "", json: bool = False) -> Template:
    """Check one template and show what a workspace of it has.

    Example: template.get python --json
    """
    from codesmith.workspace import template

    found = template.load(paths.nodes_file(file), name)
    output.show(found, json=json)
    return found
