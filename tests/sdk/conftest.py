"""A client's end of a Unix socket."""

from __future__ import annotations

import pytest

from codesmith.sdk.transport import Transport
from tests.sdk.sdk_doubles import refuse_to_ensure


@pytest.fixture
def path(tmp_path):
    return tmp_path / "endpoint.sock"


@pytest.fixture
def transport(path):
    opened = Transport("web1", path, refuse_to_ensure)
    yield opened
    opened.close()
