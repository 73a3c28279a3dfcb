"""The internet of a test: a bridged lab node with many names, git, a web server and registries for pip, npm and cargo.

Its names are in /etc/hosts of the nodes that `meets` was called for, and those nodes trust its certificates.
"""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from tests.agent.on_node.forge import PASSWORD, Forge
from tests.person import Person

# What a test allows and what it does not: all of them lead to the same server.
NAMES = ("git.test", "web.test", "pypi.test", "npm.test", "cargo.test", "cdn.web.test", "other.test")
SERVER = Path(__file__).with_name("internet_server.py").read_text()
AUTHORITY = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign", "subjectKeyIdentifier=hash")
LEAF = ("basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature", "authorityKeyIdentifier=keyid")
METADATA = "Metadata-Version: 2.1\nName: tiny-net\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
UNIT = "systemd-run --quiet --unit=internet python3 -I /root/internet.py {host} {password}"
IS_OPEN = "bash -c 'exec 3<>/dev/tcp/127.0.0.1/443 4<>/dev/tcp/127.0.0.1/80'"


class Internet(Forge):
    """The servers: git over ssh and https (as those of a forge, and below /git/), web pages, and three registries."""

    def __init__(self, person: Person, node: str, folder: Path) -> None:
        super().__init__(person, node, folder)
        self.ipv6 = person.lab_node(node).bridge_ipv6
        self._write("/root/internet.py", SERVER)
        self.authority = self._certify_names(folder)
        root = person.lab_node(node).root
        (root / "srv/files").mkdir()
        (root / "srv/files/tiny_net-1.0-py3-none-any.whl").write_bytes(python_package())
        (root / "srv/files/tiny-net-1.0.0.tgz").write_bytes(npm_package())
        (root / "srv/files/tiny-net-1.0.0.crate").write_bytes(crate())
        person.on(node, UNIT.format(host=self.host, password=PASSWORD))
        person.wait_until(lambda: person.on(node, IS_OPEN, check=False).ok, within_s=20)
        self.meets(node)

    def meets(self, node: str) -> None:
        """Let a node know the names of the internet, and trust what it says of itself."""
        lines = "".join(f"{self.host} {name}\n" for name in NAMES)
        self.person.on(node, f"cat >> /etc/hosts <<'END'\n{lines}END")
        self.trusted_by(node)
        self.person.on(node, f"cat >> /etc/ssl/certs/ca-certificates.crt <<'END'\n{self.authority}END")

    def asked(self) -> list[str]:
        """Return what reached the web server: `https web.test GET /hello`."""
        return self.person.on(self.node, "cat /tmp/asked", check=False).out.splitlines()

    def _certify_names(self, folder: Path) -> str:
        """Put a certificate for every name on the node; return that of its authority."""
        new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-days", "2"]  # fmt: skip
        extensions = [word for text in AUTHORITY for word in ("-addext", text)]
        words = [*new, "-subj", "/CN=authority", *extensions, "-keyout", "ca.key", "-out", "ca.pem"]
        subprocess.run(words, cwd=folder, check=True, capture_output=True)
        names = ",".join([*(f"DNS:{name}" for name in NAMES), f"IP:{self.host}", f"IP:{self.ipv6}"])
        extensions = [word for text in (*LEAF, f"subjectAltName={names}") for word in ("-addext", text)]
        words = [*new, "-CA", "ca.pem", "-CAkey", "ca.key", "-subj", "/CN=internet", *extensions,
                 "-keyout", "names.key", "-out", "names.pem"]  # fmt: skip
        subprocess.run(words, cwd=folder, check=True, capture_output=True)
        self._write("/srv/internet.pem", (folder / "names.key").read_text() + (folder / "names.pem").read_text())
        return (folder / "ca.pem").read_text()


def python_package() -> bytes:
    """Return a wheel of one module, `tiny_net`, whose `greeting` is a text."""
    folder = "tiny_net-1.0.dist-info"
    files = {"tiny_net.py": 'greeting = "from the index"\n', f"{folder}/METADATA": METADATA, f"{folder}/WHEEL": WHEEL}
    record = "".join(f"{name},,\n" for name in [*files, f"{folder}/RECORD"])
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in {**files, f"{folder}/RECORD": record}.items():
            archive.writestr(name, text)
    return made.getvalue()


def npm_package() -> bytes:
    """Return the archive of a package whose only module is a text."""
    files = {
        "package/package.json": json.dumps({"name": "tiny-net", "version": "1.0.0", "main": "index.js"}),
        "package/index.js": 'module.exports = "from the registry"\n',
    }
    return archive_of(files)


def crate() -> bytes:
    """Return the archive of a crate, `tiny-net`, whose GREETING is a text."""
    files = {
        "tiny-net-1.0.0/Cargo.toml": '[package]\nname = "tiny-net"\nversion = "1.0.0"\nedition = "2021"\n',
        "tiny-net-1.0.0/src/lib.rs": 'pub const GREETING: &str = "from the crates";\n',
    }
    return archive_of(files)


def archive_of(files: Mapping[str, str]) -> bytes:
    """Return files as a .tar.gz."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text), 0o644
            archive.addfile(info, io.BytesIO(text.encode()))
    return gzip.compress(made.getvalue(), mtime=0)
