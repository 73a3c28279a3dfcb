"""Somebody without rights on a node who looks at everything that anybody may see, again and again."""

from __future__ import annotations

from tests.agent.on_node.web1 import Web1

LOOK = """\
while sleep 0.02; do
  for f in /proc/[0-9]*/cmdline /proc/[0-9]*/environ; do tr '\\0' ' ' < $f; echo; done
  systemctl show 'codesmith-workspace@*' --no-pager
  for f in /proc/[0-9]*/exe; do grep -a -h s3cret ${f%exe}fd/[3-9] < /dev/null; done
done
"""
SEEN = "/root/spied"


class Spy:
    """Looks from the moment it is made until `end`."""

    def __init__(self, web1: Web1) -> None:
        self._web1 = web1
        web1.on(f"cat > /tmp/spy <<'END'\n{LOOK}END\nchmod 755 /tmp/spy")
        nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
        self._pid = web1.on(f"{nobody} timeout 250 sh /tmp/spy > {SEEN} 2>/dev/null & echo $!").out.strip()

    def wait_for(self, word: str) -> None:
        """Return once it has seen a word that is no secret: a spy who sees nothing proves nothing."""
        is_seen = f"grep -q -a -F -e '{word}' {SEEN}"
        self._web1.person.wait_until(lambda: self._web1.on(is_seen, check=False).ok, within_s=100)

    def end(self) -> str:
        """Return all that it has seen, up to now."""
        return self._web1.on(f"kill {self._pid}; cat {SEEN}; rm {SEEN}").out
