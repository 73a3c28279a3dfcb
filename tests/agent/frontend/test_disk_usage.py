"""What the files of workspaces take is measured as often as is cheap."""

from __future__ import annotations

from typing import Any

from agent.frontend.disk_usage import SHARE, DiskUsage


class Disk:
    """A disk whose measuring takes time, by a clock that it moves itself."""

    def __init__(self) -> None:
        self.now, self.takes_s, self.asked = 0.0, 0.0, []

    def measure(self, workspace: str) -> dict[str, Any]:
        self.now += self.takes_s
        self.asked.append(workspace)
        return {"disk_bytes": len(self.asked), "files": 1}


def test_what_took_long_counts_for_longer() -> None:
    disk = Disk()
    usage = DiskUsage(disk.measure, lambda: disk.now)
    disk.takes_s = 2.0
    assert usage.of("big")["disk_bytes"] == 1
    disk.now += 2.0 / SHARE - 0.1
    assert usage.of("big")["disk_bytes"] == 1
    disk.now += 0.2
    assert usage.of("big")["disk_bytes"] == 2


def test_each_workspace_is_measured_for_itself() -> None:
    disk = Disk()
    usage = DiskUsage(disk.measure, lambda: disk.now)
    disk.takes_s = 1.0
    usage.of("one")
    usage.of("two")
    usage.of("one")
    assert disk.asked == ["one", "two"]


def test_what_takes_no_time_is_measured_each_time() -> None:
    disk = Disk()
    usage = DiskUsage(disk.measure, lambda: disk.now)
    assert [usage.of("small")["disk_bytes"] for _ in range(3)] == [1, 2, 3]
