"""Tasks of one's own on top of CodeSmith's: `inv -r examples -c own_tasks release shop`, and all others as ever.

As tasks.py beside your nodes.yaml, in an environment that has codesmith installed, it is `inv release shop`.
"""

from __future__ import annotations

from invoke.context import Context
from invoke.main import program
from invoke.tasks import task

from codesmith.cli.program import adopt
from codesmith.tasks import root, workspace


@task(help={"name": "The workspace.", "node": "The node (default: the only one)."})
def release(c: Context, name: str, node: str | None = None) -> None:
    """Archive the code of a workspace as release.tar.gz, here."""
    workspace.copy(c, f"{name}:code/", "release/", node=node)
    c.run("tar czf release.tar.gz release && rm -r release")
    print("release.tar.gz")


adopt(program)  # CodeSmith's pages of help, and its words about a mistyped command line
ns = root()
ns.add_task(release)
