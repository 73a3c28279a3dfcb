"""Read nodes.yaml for completion, and keep what it says: `python -m codesmith.completion.known_nodes CACHE [FILE]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from codesmith import paths
from codesmith.completion.answer import stamp
from codesmith.errors import CodeSmithError
from codesmith.nodes.registry import Registry
from codesmith.tunnel.local_endpoint import endpoint_path


def read(file: str = "") -> dict[str, object]:
    """Return the nodes with their places and sockets, the tags and the default; no program of nodes.yaml is run."""
    path = paths.nodes_file(file)
    registry = Registry.load(path, runs_programs=False)
    nodes = {name: {"place": node.place, "socket": str(endpoint_path(node))} for name, node in registry.nodes.items()}
    tags = sorted({tag for node in registry.nodes.values() for tag in node.tags})
    stamps = {str(file): stamp(str(file)) for file in registry.files}
    found = {"path": str(path), "stamps": stamps, "nodes": nodes, "tags": tags}
    return {**found, "default": registry.default}


def main(cache: str, file: str = "") -> int:
    """Print what `read` returns, and write it to the file `cache`."""
    try:
        text = json.dumps(read(file))
    except CodeSmithError:
        return 1
    place = Path(cache)
    paths.ensure_private(place.parent)
    fresh = place.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(place)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
