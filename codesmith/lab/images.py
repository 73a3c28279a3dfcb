"""The images that nodes boot from: minimal Debian, built once by mmdebstrap and cached."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from codesmith.errors import CodeSmithError, UnknownName
from codesmith.lab import qemu
from codesmith.lab.home import CACHE, lock
from codesmith.lab.programs import ProgramFailed, run

RELEASES = ("bookworm", "trixie", "bullseye")
# Increase it when `finish` changes: it is part of the hash that names the image.
FINISH = 2
PACKAGES = (
    # What a small server has.
    "systemd", "systemd-sysv", "dbus", "libpam-systemd", "openssh-server", "openssh-client", "sudo", "python3",
    "ca-certificates", "iproute2", "procps", "acl", "cron", "at", "curl", "rsync",
    # git with its recommended packages, so that a node can install it again without a network.
    "git", "less", "patch",
    # chattr; minbase has it only until Debian 12.
    "e2fsprogs",
    # Login shells that people use.
    "fish", "tcsh", "zsh",
)  # fmt: skip


def recipe(release: str, more: Sequence[str] = ()) -> list[str]:
    """Return the arguments of mmdebstrap. It keeps package lists and archives, so that apt works without a network."""
    return ["--variant=minbase", "--skip=cleanup/apt", f"--include={','.join((*PACKAGES, *more))}", release]


def ensure(release: str, more: Sequence[str] = ()) -> Path:
    """Return the image of a release. The first time it is built, which takes half a minute and needs the network.

    With `more` packages it is another image, with those too. UnknownName if the lab does not have the release.
    """
    if release not in RELEASES:
        known = ", ".join((*RELEASES, *qemu.RELEASES))
        raise UnknownName(f"the lab has no release {release!r}; it has {known}")
    return ensure_built(release, recipe(release, more), finish)


def path_of(release: str, arguments: Sequence[str] = ()) -> Path:
    """Return the path of a release's image, or of the one that mmdebstrap makes with other arguments."""
    digest = hashlib.sha256("\0".join([str(FINISH), *(arguments or recipe(release))]).encode()).hexdigest()[:12]
    return CACHE / "images" / f"{release}-{digest}"


def ensure_built(release: str, arguments: Sequence[str], finish: Callable[[Path], None]) -> Path:
    """Return the image that mmdebstrap makes with these arguments and `finish` completes; it is built once."""
    image = path_of(release, arguments)
    if image.is_dir():
        return image
    with lock(image.parent / f"{release}.lock"):
        if not image.is_dir():
            _build(release, arguments, finish, image)
    return image


def _build(release: str, arguments: Sequence[str], finish: Callable[[Path], None], image: Path) -> None:
    _say(f"building the image of Debian {release}, once (about a minute)")
    began = time.monotonic()
    building = image.with_name(f".{image.name}.building")
    # We hold the lock, so a builder that died left this.
    if building.exists():
        shutil.rmtree(building)
    try:
        run("mmdebstrap", *arguments, str(building), timeout_s=1200)
        finish(building)
        building.chmod(0o755)
        building.rename(image)
    except ProgramFailed as error:
        raise CodeSmithError(
            f"the image of Debian {release} could not be built: {_last_lines(error.stderr)}", hint="sudo apt-get update"
        ) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(building)
    _say(f"image of Debian {release} ready after {time.monotonic() - began:.0f} s")


def finish(root: Path) -> None:
    """Remove what each node must have of its own, and what would disturb a short-lived node."""
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (root / "etc/machine-id").write_text("")
    # This machine's name servers: a node cannot reach them and would wait; without any, lookups fail at once.
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    # They would hold apt's lock while a test uses apt, and have no network anyway.
    for timer in ("apt-daily.timer", "apt-daily-upgrade.timer"):
        (root / "etc/systemd/system" / timer).symlink_to("/dev/null")


def _say(text: str) -> None:
    sys.stderr.write(f"lab: {text}\n")
    sys.stderr.flush()


def _last_lines(text: str, count: int = 5) -> str:
    return " / ".join(text.splitlines()[-count:])
