"""Both programs start from anywhere, and import little."""

from __future__ import annotations

import json
import sys

import pytest

from tests.sdk.sdk_doubles import real_agent
from tests.tasks.conftest import INV

pytestmark = pytest.mark.slow
HEAVY = (
    "asyncio", "cryptography", "fabric", "http.client", "jsonrpclib", "paramiko", "rich", "ruamel", "ssl", "unittest",
)  # fmt: skip


def test_the_way_of_a_call_imports_nothing_heavy(place, tmp_path):
    with real_agent(place.endpoint(), tmp_path):
        done = place.run([sys.executable, "-X", "importtime", INV, "node.version", "--json"])
    assert json.loads(done.stdout)[0]["node"] == "web1"
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "codesmith.sdk.api" in imported
    assert not {name for name in imported if name.startswith(HEAVY)}
    assert not {
        name for name in imported if name.startswith(("codesmith.ssh", "codesmith.lab", "codesmith.tunnel.control"))
    }


def test_the_program_works_away_from_the_checkout(place, tmp_path):
    done = place.codesmith("node.list", cwd=tmp_path)
    assert done.stdout == f"web1\tweb1.invalid\tunix:{place.endpoint()}\tstopped\t\teu\tnodes.yaml\n"
