"""OpenSSH as an operator has it: the options of the site, with or without a master connection that is kept."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from bench.clock import Command, until
from bench.site import Site
from codesmith.errors import CodeSmithError

OPENS_WITHIN_S = 20.0


def ssh(site: Site, name: str, *argv: object, options: tuple[str, ...] = ()) -> Command:
    """Return `ssh NODE ARGV` without any configuration of the operator."""
    node = site.address(name)
    fixed = (
        f"UserKnownHostsFile={site.known_hosts}",
        "StrictHostKeyChecking=yes",
        "IdentitiesOnly=yes",
        "BatchMode=yes",
    )
    words = [word for option in (*fixed, *options) for word in ("-o", option)]
    return site.command("ssh", "-F", "none", "-i", node["identity"], "-p", node["port"], *words,
                        f"{node['user']}@{node['host']}", *argv)  # fmt: skip


@contextmanager
def master(site: Site, name: str) -> Iterator[tuple[str, ...]]:
    """Keep a master connection open; give the options that use it."""
    path = site.folder / f"master-{name}"
    command = ssh(site, name, options=("ControlMaster=yes", f"ControlPath={path}"))
    argv = (*command.argv[:1], "-N", *command.argv[1:])
    with subprocess.Popen(argv, env=command.environment, stdin=subprocess.DEVNULL) as process:
        try:
            if not until(lambda: path.exists() or process.poll() is not None, OPENS_WITHIN_S, 0.02):
                raise CodeSmithError("the ssh master did not open its socket")
            yield (f"ControlPath={path}",)
        finally:
            process.terminate()
