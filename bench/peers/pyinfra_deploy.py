"""The state of a prepared node as a pyinfra deploy. The bench runs it on prepared nodes, where nothing changes."""

import json
import os
from pathlib import Path

from pyinfra.operations import files, server, systemd

checks = json.loads(Path(os.environ["BENCH_CHECKS"]).read_text(encoding="utf-8"))
user = checks["user"]

for name in checks["groups"]:
    server.group(group=name, system=True)
server.user(
    user=user["name"], group=user["group"], home=user["home"], shell=user["shell"], system=True, ensure_home=False
)
for one in checks["directories"]:
    files.directory(path=one["path"], mode=one["mode"], user=one["owner"], group=one["group"])
for one in checks["files"]:
    files.put(src=one["twin"], dest=one["path"], mode=one["mode"], user="root", group="root")
for one in checks["links"]:
    files.link(path=one["path"], target=one["target"], user="root", group="root")
for path in checks["present"]:
    files.file(path=path, mode="644", user="root", group="root")
for name in checks["services"]:
    systemd.service(service=name, running=True, enabled=True)
