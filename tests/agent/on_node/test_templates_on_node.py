"""Workspaces of templates on a real node: what they have, where their variables reach, and what a failure leaves."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from invoke.context import Context

from codesmith.tasks import workspace
from tests.agent.on_node.door_one import Door
from tests.agent.on_node.door_two import Colleague, open_door
from tests.agent.on_node.web1 import Web1
from tests.releases import BOOKWORM_FIRST

pytestmark = [pytest.mark.lab, BOOKWORM_FIRST]
TEMPLATE = """\
description: a site with its tools
sandbox: {memory: 256M, tasks: 200}
network: none
labels: {team: red}
files:
  config/app.toml: app.toml
  code/bin: tools
env: {STAGE: dev, GREETING: "it's a day"}
setup:
  - echo "$STAGE" > data/stage; echo out; echo err >&2
  - cd code && ./bin/run > ran
  - test ! -e ran
ports: [8000, 18001:8001]
"""
SHOW = 'echo "$STAGE: $GREETING"'


@pytest.fixture
def write(web1: Web1) -> Callable[[str, str], None]:
    """Write a template beside the registry of the node."""
    folder = web1.person.registry.parent / "templates"
    (folder / "tools").mkdir(parents=True, exist_ok=True)
    (folder / "app.toml").write_text("a = 1\n")
    (folder / "tools" / "run").write_text("#!/bin/sh\necho it runs\n")
    (folder / "tools" / "run").chmod(0o755)
    return lambda name, text: (folder / f"{name}.yaml").write_text(text) and None


@pytest.fixture
def site(web1: Web1, write: Callable[[str, str], None]) -> str:
    """A workspace of the template, for the tests of this module."""
    if "site" not in [one.name for one in web1.client.workspace.list()]:
        write("site", TEMPLATE)
        said = web1.person.runs("inv workspace.create site --template site --any")
        assert "on web1: " in said.err and "\nits ports 8000, 18001:8001, forwarded to this machine: inv" in said.err
        first, second, third = (f"+ {line[4:]}" for line in TEMPLATE.splitlines()[-4:-1])
        assert "\n".join([first, "out", "err", second, third, ""]) in said.err
    return "site"


def test_a_workspace_has_all_that_its_template_says(web1: Web1, site: str) -> None:
    made = web1.client.workspace.get(name=site)
    assert made.labels == {"team": "red", "template": "site", "ports": "8000,18001:8001"}
    assert made.sandbox is not None and made.sandbox.network == "none"
    assert made.sandbox.limits == {"memory_bytes": 256 << 20, "tasks": 200}
    script = "cat config/app.toml data/stage code/ran; stat -c %a code/bin/run config/app.toml config/environment"
    done = web1.client.workspace.exec(name=site, argv=["sh", "-c", script])
    assert done.stdout == "a = 1\ndev\nit runs\n755\n644\n600\n"
    assert [job.name for job in web1.client.job.list(workspace=site) if not job.ends_with_stream] == ["setup"]


def test_its_variables_reach_whatever_enters(web1: Web1, site: str, tmp_path: Path) -> None:
    person, wanted = web1.person, "dev: it's a day\n"
    assert person.runs(f"inv workspace.exec {site} -- sh -c '{SHOW}'").out == wanted
    assert person.runs(f"inv job.start {site} --follow -- sh -c '{SHOW}'").out == wanted
    assert Door(web1).ssh(site, SHOW) == wanted
    open_door(web1)
    ann = Colleague(web1, tmp_path, "ann")
    web1.client.user.create(name="ann", ssh_keys=[ann.key_line])
    web1.client.workspace.share(name=site, user="ann")
    ann.let_in()
    assert ann.ssh(SHOW) == wanted
    assert person.runs(f"inv workspace.exec {site} --env STAGE=test -- sh -c '{SHOW}'").out == "test: it's a day\n"
    person.runs(f"echo STAGE=live | inv file.write {site} config/environment")
    assert person.runs(f"inv workspace.exec {site} -- sh -c '{SHOW}'").out == "live: \n"


def test_a_failed_setup_leaves_nothing_on_the_node(web1: Web1, write: Callable[[str, str], None]) -> None:
    write("bad", "setup: [echo first, 'false; true', echo never]\n")
    said = web1.person.fails("inv workspace.create bad --template bad", code=1)
    assert "+ echo first\nfirst\n+ false; true\nsetup command 2 of 3 has ended with exit code 1\n" in said.err
    assert (
        "never" not in said.err.replace("echo never", "") and "the setup of bad has ended with exit code 1" in said.err
    )
    names = [one.name for one in (*web1.client.workspace.list(), *web1.client.user.list())]
    assert "bad" not in names and web1.on("ls /srv/codesmith/workspaces").out.find("bad") < 0


def test_keep_leaves_it_to_look_at(web1: Web1, write: Callable[[str, str], None]) -> None:
    write("kept", "setup: [echo first > data/one, exit 3]\n")
    said = web1.person.fails("inv workspace.create kept --template kept --keep", code=1)
    assert "note: workspace kept is there, as far as it came; to delete it: inv workspace.delete kept\n" in said.err
    assert web1.person.runs("inv file.read kept data/one").out == "first\n"
    assert "setup command 2 of 2 has ended with exit code 3" in web1.person.runs("inv job.logs kept setup").out


def test_ctrl_c_in_the_setup_leaves_nothing_on_the_node(web1: Web1, write: Callable[[str, str], None]) -> None:
    write("slow", "setup: [echo begun; sleep 600]\n")
    argv = ["inv", "workspace.create", "slow", "--template", "slow"]
    with subprocess.Popen(
        argv, env=web1.person.environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        while process.stderr.readline() != "begun\n":
            pass
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "error: cancelled: workspace slow is deleted again\n"
    assert process.returncode == 2
    assert "slow" not in [one.name for one in web1.client.workspace.list()]
    assert web1.on("pgrep -x sleep", check=False).out == ""


def test_a_host_that_no_list_can_have_leaves_nothing(web1: Web1, write: Callable[[str, str], None]) -> None:
    write("odd", "network: {allow: ['a..b']}\n")
    said = web1.person.runs("inv workspace.create odd --template odd", code=1)
    assert "note: workspace odd is deleted again\n" in said.err
    assert "odd" not in [one.name for one in web1.client.workspace.list()]


def test_variables_without_a_template(web1: Web1) -> None:
    made = workspace.create(Context(), "plain", env=["STAGE=a b"], node="web1")
    assert made.labels == {}
    assert web1.client.workspace.exec(name="plain", argv=["sh", "-c", "echo $STAGE"]).stdout == "a b\n"


def test_the_memory_of_a_node_is_what_its_kernel_says(web1: Web1) -> None:
    info = web1.client.node.info()
    assert 0 < info.memory_available_bytes <= info.memory_bytes
