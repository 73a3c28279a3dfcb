"""The images that nodes boot from: minimal Debian, built once by mmdebstrap and kept in a cache."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sys
import time
from pathlib import Path

from codesmith.errors import CodeSmithError, UnknownName
from codesmith.lab.home import CACHE, lock
from codesmith.lab.programs import ProgramFailed, run

RELEASES = ("bookworm", "trixie", "bullseye")
# Raise it when `_finish` changes: the recipe's hash names the image.
FINISH = 2
PACKAGES = (
    # What a small server has.
    "systemd", "systemd-sysv", "dbus", "libpam-systemd", "openssh-server", "openssh-client", "sudo", "python3",
    "ca-certificates", "iproute2", "procps", "acl", "cron", "at", "curl",
    # git with what it recommends, so that a node can install it again without a network.
    "git", "less", "patch",
    # chattr, which minbase has until Debian 12 only.
    "e2fsprogs",
    # Login shells of people.
    "fish", "tcsh", "zsh",
)  # fmt: skip


def recipe(release: str) -> list[str]:
    """Return the arguments of mmdebstrap. The package lists and archives stay: a node's apt works without a network."""
    return ["--variant=minbase", "--skip=cleanup/apt", f"--include={','.join(PACKAGES)}", release]


def path_of(release: str) -> Path:
    """Return where the image of a release is kept; UnknownName for one the lab does not know."""
    if release not in RELEASES:
        raise UnknownName(f"the lab has no release {release!r}; it has {', '.join(RELEASES)}")
    digest = hashlib.sha256("\0".join([str(FINISH), *recipe(release)]).encode()).hexdigest()[:12]
    return CACHE / "images" / f"{release}-{digest}"


def ensure(release: str) -> Path:
    """Return the image of a release; the first time it is built, which takes half a minute and the network."""
    image = path_of(release)
    if image.is_dir():
        return image
    with lock(image.parent / f"{release}.lock"):
        if not image.is_dir():
            _build(release, image)
    return image


def _build(release: str, image: Path) -> None:
    _say(f"building the image of Debian {release}, once (about a minute)")
    began = time.monotonic()
    building = image.with_name(f".{image.name}.building")
    # We hold the lock, so this is what a dead builder left.
    if building.exists():
        shutil.rmtree(building)
    try:
        run("mmdebstrap", *recipe(release), str(building), timeout_s=1200)
        _finish(building)
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


def _finish(root: Path) -> None:
    """Take out what belongs to one machine only, and what would disturb a node that lives for seconds."""
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (root / "etc/machine-id").write_text("")
    # This machine's name servers: a node would wait for them in vain; without any it is told so at once.
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    # They would hold apt's lock while a test uses apt, and there is no network for them anyway.
    for timer in ("apt-daily.timer", "apt-daily-upgrade.timer"):
        (root / "etc/systemd/system" / timer).symlink_to("/dev/null")


def _say(text: str) -> None:
    sys.stderr.write(f"lab: {text}\n")
    sys.stderr.flush()


def _last_lines(text: str, count: int = 5) -> str:
    return " / ".join(text.splitlines()[-count:])
