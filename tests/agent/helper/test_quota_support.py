"""What a file system lacks for limits of the disk is named; one that lacks nothing is taken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.helper.runtime import quota_support, sandboxes
from agent.shared.errors import InvalidParams, Unsupported

LINE = "36 25 {device} / /srv rw,noatime shared:1 master:2 - {kind} /dev/vdb {options}"
OTHER = "25 1 254:999 / / rw - ext4 /dev/vda rw,prjquota\n"


def mounted(monkeypatch: pytest.MonkeyPatch, folder: Path, kind: str, options: str) -> str:
    """Have the workspaces on such a file system; return its device."""
    number = folder.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    mounts = folder / "mountinfo"
    mounts.write_text(OTHER + LINE.format(device=device, kind=kind, options=options) + "\n")
    for name, value in (("MOUNTS", mounts), ("HOMES", folder), ("WORKSPACES", folder)):
        monkeypatch.setattr(quota_support, name, str(value))
    return f"/dev/block/{device}"


@pytest.mark.parametrize(("kind", "options"), [("ext4", "rw,prjquota"), ("xfs", "rw,attr2,prjquota,noquota_x")])
def test_a_file_system_with_project_quotas_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, options: str
) -> None:
    device = mounted(monkeypatch, tmp_path, kind, options)
    assert quota_support.device_of("demo") == device
    assert sandboxes.parse("demo", {"disk_bytes": 1 << 20}, "full").limits == {"disk_bytes": 1 << 20}
    for size in (0, (1 << 20) - 1, True, 1.5e9):
        with pytest.raises(InvalidParams):
            sandboxes.parse("demo", {"disk_bytes": size}, "full")


@pytest.mark.parametrize(
    ("kind", "options", "problem", "hint"),
    [
        ("overlay", "rw,lowerdir=/x", "on overlay, and project quotas need ext4 or xfs", "inv workspace.usage demo"),
        ("ext4", "rw,usrquota", "on ext4, mounted without prjquota", "tune2fs -O project,quota"),
        ("xfs", "rw,noquota", "on xfs, mounted without prjquota", "/etc/fstab: mount it with the option prjquota"),
    ],
)
def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, options: str, problem: str, hint: str
) -> None:
    mounted(monkeypatch, tmp_path, kind, options)
    with pytest.raises(Unsupported, match="disk_bytes") as refusal:
        sandboxes.parse("demo", {"disk_bytes": 1 << 30}, "full")
    assert problem in str(refusal.value)
    assert hint in refusal.value.data["hint"]


def test_homes_and_workspaces_on_two_file_systems_cannot_be_limited_together(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mounted(monkeypatch, tmp_path, "ext4", "rw,prjquota")
    monkeypatch.setattr(quota_support, "HOMES", "/proc")
    with pytest.raises(Unsupported, match="two file systems"):
        quota_support.device_of("demo")
