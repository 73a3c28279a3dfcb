"""`python -m agent.methods` prints the contract; `make api` writes it to agent/openrpc.json."""

from __future__ import annotations

import sys

from agent.contract import document, examples
from agent.methods import METHODS

if __name__ == "__main__":
    sys.stdout.write(document.dumps(document.build(METHODS, examples.read())))
