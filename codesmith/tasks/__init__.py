"""The tasks of `inv` and `codesmith`: one module per namespace, listed here and nowhere else."""

from __future__ import annotations

from invoke.collection import Collection


def root() -> Collection:
    """Return the root collection; one line per namespace, alphabetical."""
    from codesmith.tasks import (
        audit,
        completion,
        demo,
        file,
        job,
        lab,
        mcp,
        node,
        repo,
        sandbox,
        ssh,
        template,
        token,
        top,
        ui,
        user,
        workspace,
    )

    return Collection(
        completion.completion,
        demo.demo,
        top.top,
        audit=Collection.from_module(audit),
        file=Collection.from_module(file),
        job=Collection.from_module(job),
        lab=Collection.from_module(lab),
        mcp=Collection.from_module(mcp),
        node=Collection.from_module(node),
        repo=Collection.from_module(repo),
        sandbox=Collection.from_module(sandbox),
        ssh=Collection.from_module(ssh),
        template=Collection.from_module(template),
        token=Collection.from_module(token),
        ui=Collection.from_module(ui),
        user=Collection.from_module(user),
        workspace=Collection.from_module(workspace),
    )
