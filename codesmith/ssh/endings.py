"""Why sshd ended a login: the same words and next step for both carriers."""

from __future__ import annotations

from codesmith.ssh.passwords import TOO_MANY
from codesmith.ssh.target import Target

SILENT = "its account, or a rule of PAM, may forbid it: an expired account, /etc/nologin, pam_access"
LOG = "on the node, as root: journalctl -u ssh -u sshd -n 20"
EXPIRED = "the password has expired, and sshd wants a new one"


def explain_ending(target: Target, words: str, keys_tried: int) -> tuple[str, str]:
    """Return the reason for an ended login, in sshd's own `words` if it has any, and the next step."""
    said = f"; it said: {words}" if words else ""
    if TOO_MANY in words:
        host = target.alias or target.host
        fewer = f"in ~/.ssh/config, for Host {host}: IdentitiesOnly yes, and IdentityFile with the right key"
        hint = fewer if keys_tried > 1 else target.ssh_line("ssh-copy-id")
        return f"sshd there ended the login after too many attempts (MaxAuthTries){said}", hint
    return "sshd there ended the login" + (said or f" without a word ({SILENT})"), LOG


def how_to_get_in(target: Target) -> str:
    """Return the next step where sshd refused: it has one answer for a wrong key and for a login that none opens."""
    return f"{target.ssh_line('ssh-copy-id')}  # or it lets {target.user} in by no key: {LOG}"
