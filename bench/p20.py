"""P20: the admin UI's page of fifty nodes and a thousand workspaces."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from bench.row import Row, limit
from bench.site import TOP, Site
from codesmith.nodes.registry import Registry
from codesmith.tunnel.local_endpoint import endpoint_path
from tests.ui.stand_in import StandIn

NODES, EACH, TURNS = 50, 20, 5
CHROMIUM = "/usr/bin/chromium"
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def rows(site: Site) -> list[Row]:
    """Time the fleet page in Chromium, with a stand-in for each agent, and weigh the server."""
    with _agents(site) as agents, _pages(site) as (process, address), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(address)
        expect(page.get_by_text(f"{NODES} of {NODES} nodes, {NODES * EACH} workspaces")).to_be_visible(timeout=60_000)
        paints = [_paint(page) for _ in range(TURNS)]
        updates = [_update(page, agents[number], number) for number in range(TURNS)]
        memory_mb = _rss_mb(process.pid)
        browser.close()
    compared = (
        f"Chromium, {NODES} nodes with {EACH} workspaces each, stand-ins for their agents on this machine; median of "
        f"{TURNS}"
    )
    return [
        limit("P20", "UI: first paint of all nodes", statistics.median(paints), 300, "ms", compared),
        limit("P20", "UI: a change is on the page", statistics.median(updates), 1000, "ms", compared),
        limit("P20", "UI: server memory", memory_mb, 80, "MB", f"VmRSS with one page open; {compared}"),
    ]


def _paint(page: Page) -> float:
    page.reload()
    expect(page.get_by_role("row")).to_have_count(NODES + 1)
    return float(page.evaluate(PAINTED))


def _update(page: Page, agent: StandIn, number: int) -> float:
    # With a filter the page shows one line: the new workspace in it.
    page.get_by_label("Filter").fill(f"late{number}")
    expect(page.get_by_text("No node matches.")).to_be_visible()
    begun = time.perf_counter()
    agent.add(f"late{number}")
    page.get_by_role("link", name=f"late{number}").wait_for()
    return (time.perf_counter() - begun) * 1000


def _rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@contextmanager
def _agents(site: Site) -> Iterator[list[StandIn]]:
    """Start a stand-in on the socket of each node, where the client looks before it asks the forwarder."""
    import os

    path = site.folder / "many.yaml"
    names = [f"n{number:02d}" for number in range(NODES)]
    path.write_text(json.dumps({"nodes": {name: {"host": "127.0.0.1", "port": 1} for name in names}}))
    before = os.environ.get("CODESMITH_HOME")
    os.environ["CODESMITH_HOME"] = str(site.home)
    agents = []
    try:
        for name, node in Registry.load(path).nodes.items():
            agents.append(StandIn(endpoint_path(node), name))
            for number in range(EACH):
                agents[-1].add(f"w{number}")
        yield agents
    finally:
        for agent in agents:
            agent.stop()
        if before is None:
            del os.environ["CODESMITH_HOME"]
        else:
            os.environ["CODESMITH_HOME"] = before


@contextmanager
def _pages(site: Site) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `ui.open` and give the address that lets a browser in."""
    command = [
        sys.executable,
        "-m",
        "codesmith",
        "ui.open",
        "--print",
        "--json",
        "--file",
        str(site.folder / "many.yaml"),
    ]
    with subprocess.Popen(command, cwd=TOP, env=site.environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = ""
        while not said.rstrip().endswith("}"):
            said += process.stdout.readline()
        yield process, json.loads(said)["address"]
        process.terminate()
