"""A forge on a lab node: git over ssh and over https, with a private and a public repository."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path
from typing import Any

from tests.agent.on_node.web1 import Web1
from tests.person import Person

CODE = "/srv/codesmith/workspaces/{}/code"
PASSWORD = "s3cret-of-the-forge-7f1c"
SERVER = Path(__file__).with_name("forge_server.py").read_text()
SET_UP = """
set -e
useradd --create-home --shell /bin/bash git
usermod --password '*' git
install -d -m 700 -o git -g git /home/git/.ssh
echo '{public_key}' > /home/git/.ssh/authorized_keys
chown git: /home/git/.ssh/authorized_keys
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b HOME=/root
git init -q -b main /srv/git/seed
cd /srv/git/seed
echo one > one; git add one; git commit -qm one; git tag v1
git branch other
echo two > two; git add two; git commit -qm two
git clone -q --bare . ../public.git
git clone -q --bare . ../private.git
git -C ../public.git commit-tree -p HEAD -m loose "HEAD^{{tree}}" > ../loose
chown -R git: /srv/git
systemd-run --quiet --unit=forge python3 /root/serve.py {host} {password}
"""
# What the logins of the forge do: as git, so that ssh and https write to the same repositories.
COMMIT = """
set -e
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
folder=$(mktemp -d); cd $folder; git clone -q /srv/git/{name}.git .
git checkout -q {branch} || git checkout -q -b {branch}
echo {text} > {file}; git add .; git commit -qm {text}; git push -q origin {branch}; git rev-parse HEAD; rm -rf $folder
"""
HOSTILE = """
set -e
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b HOME=/root
cd /srv/git; git init -q -b main hostile; cd hostile
ran=/srv/codesmith/workspaces/{workspace}/ran
echo '* filter=x diff=x merge=x' > .gitattributes
git config -f .gitmodules submodule.s.path sub
git config -f .gitmodules submodule.s.url "ext::touch $ran"
git config -f .gitmodules submodule.s.update "!touch $ran"
ln -s /etc/passwd link; ln -s .git/hooks hooks; ln -s /srv/codesmith/home/cs-{workspace} out
echo x > -rf; echo x > --upload-pack=touch
git add -- . ; git update-index --add --cacheinfo 160000,$(git hash-object -t commit --literally -w /dev/null),sub
git commit -qm hostile; git clone -q --bare . ../hostile.git
script=$(printf '#!/bin/sh\\ntouch '$ran'\\n' | git hash-object -w --stdin)
hooks=$(printf '100755 blob %s\\tpost-checkout\\n' $script | git mktree)
inner=$(printf '040000 tree %s\\thooks\\n' $hooks | git mktree)
for name in .git .GIT; do
  git update-ref refs/heads/evil $(git commit-tree -m evil $(printf "040000 tree $inner\\t$name\\n" | git mktree))
  git init -q --bare -b main ../evil$name; git push -q ../evil$name evil:main
done
chown -R git: /srv/git
"""

# A repository with submodules on its main branch `same`, files of LFS on `lfs`, and none of them on `whole`.
PARTS = """
set -e
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b HOME=/root
mkdir -p /srv/git/parts/deep; cd /srv/git/parts; git init -q -b same .
echo '*.bin filter=lfs diff=lfs merge=lfs -text' > deep/.gitattributes
printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:%064d\\nsize 5\\n' 7 > deep/a.bin
git add .; git commit -qm lfs; git branch lfs
echo 'really here' > deep/a.bin; git add .; git commit -qm whole; git branch whole
git config -f .gitmodules submodule.s.path sub; git config -f .gitmodules submodule.s.url https://h.invalid/s.git
git add .gitmodules; git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),sub; git commit -qm submodule
git tag same lfs
chown -R git: .
"""


class Forge:
    """Where the repositories are, and what one needs to get at them."""

    def __init__(self, person: Person, node: str, folder: Path) -> None:
        self.person, self.node = person, node
        self.host = person.lab_node(node).bridge_host
        self.https = f"https://{self.host}:8443"
        self._write("/root/serve.py", SERVER)
        self._certificate = self._certify(folder)
        key = folder / "deploy"
        subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", key], check=True)
        self.key, public_key = key.read_text(), key.with_suffix(".pub").read_text().strip()
        person.on(node, SET_UP.format(public_key=public_key, host=self.host, password=PASSWORD))
        is_open = "bash -c 'exec 3<>/dev/tcp/127.0.0.1/8443'"
        person.wait_until(lambda: person.on(node, is_open, check=False).ok, within_s=20)
        public = person.on(node, "cat /etc/ssh/ssh_host_ed25519_key.pub").out.split()
        self.known_host = f"{self.host} {public[0]} {public[1]}"

    def trusted_by(self, node: str) -> None:
        """Put the forge's certificate among those that a node trusts."""
        self.person.on(node, f"cat >> /etc/ssl/certs/ca-certificates.crt <<'END'\n{self._certificate}END")

    def commit(self, name: str) -> str:
        """Return the hash of a branch or tag of the public repository, or of the one commit that none leads to."""
        words = "cat /srv/git/loose" if name == "loose" else f"git -C /srv/git/public.git rev-parse {name}"
        return self.person.on(self.node, f"runuser -u git -- {words}").out.strip()

    def keep(self, name: str) -> None:
        """Make a repository to work in: private when its name begins with that word."""
        self.person.on(self.node, f"runuser -u git -- git clone -q --bare /srv/git/private.git /srv/git/{name}.git")

    def add(self, name: str, file: str, text: str, branch: str = "main") -> str:
        """Commit a file to a repository; return the commit."""
        script = COMMIT.format(name=name, file=file, text=text, branch=branch)
        self._write("/srv/git/commit.sh", script)
        return self.person.on(self.node, "runuser -u git -- sh /srv/git/commit.sh").out.strip()

    def tip(self, name: str, ref: str = "main") -> str:
        """Return the commit of a branch or tag; empty when there is none."""
        words = f"runuser -u git -- git -C /srv/git/{name}.git rev-parse --verify --quiet {ref}"
        return self.person.on(self.node, words, check=False).out.strip()

    def keep_large(self, name: str, megabytes: int) -> str:
        """Make a public repository with that much in it that does not shrink; return its URL."""
        script = f"""set -e; mkdir /srv/git/{name}; cd /srv/git/{name}; git init -q -b main; export HOME=/root
        head -c {megabytes}M /dev/urandom > large; git -c core.compression=0 add large
        git -c user.name=a -c user.email=a@b commit -qm large; chown -R git: ."""
        self.person.on(self.node, script)
        return f"{self.https}/{name}/.git"

    def keep_parts(self) -> str:
        """Make a public repository of which a clone leaves something out; return its URL."""
        self.person.on(self.node, PARTS)
        return f"{self.https}/parts/.git"

    def keep_hostile(self, workspace: str) -> None:
        """Make hostile.git, full of what must not count there, and evil.git and evil.GIT, which have a hook in .git."""
        self.person.on(self.node, HOSTILE.format(workspace=workspace))

    def stolen(self) -> str:
        """Return what came to the door that no credential may come to."""
        return self.person.on(self.node, "cat /tmp/stolen", check=False).out

    def _write(self, path: str, text: str) -> None:
        self.person.on(self.node, f"mkdir -p /srv/git; cat > {path} <<'END'\n{text}END")

    def _certify(self, folder: Path) -> str:
        words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                 "-subj", "/CN=forge", "-addext", f"subjectAltName=IP:{self.host}", "-days", "2",
                 "-keyout", "key.pem", "-out", "cert.pem"]  # fmt: skip
        subprocess.run(words, cwd=folder, check=True, capture_output=True)
        certificate = (folder / "cert.pem").read_text()
        self._write("/srv/git/forge.pem", (folder / "key.pem").read_text() + certificate)
        return certificate


def make(web1: Web1, name: str) -> str:
    """Make a workspace and return the directory for its code."""
    web1.client.workspace.create(name=name)
    return CODE.format(name)


class Going:
    """A clone that does not end by itself, into a workspace that is there or that it founds."""

    def __init__(self, web1: Web1, forge: Forge, workspace: str, *, is_creating: bool = False, **more: Any) -> None:
        self.web1, self.ended = web1, ""
        wanted = {"url": f"{forge.https}/slow/public.git", **more}
        self._wanted = {"name": workspace, "repo": wanted} if is_creating else {"workspace": workspace, **wanted}
        self._thread = threading.Thread(target=self._clone)
        self._thread.start()
        web1.person.wait_until(lambda: web1.on(f"pgrep -u cs-{workspace} git", check=False).ok, within_s=20)

    def wait(self) -> str:
        """Return the error that it ended with."""
        self._thread.join(60)
        return self.ended

    def _clone(self) -> None:
        method = "workspace.create" if "repo" in self._wanted else "repo.clone"
        self.ended = self.web1.error_of(method, self._wanted)
