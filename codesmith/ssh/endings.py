"""Why sshd ended or refused a login: the same text and hint for both carriers."""

from __future__ import annotations

from codesmith.ssh.connect_errors import SSHD_LOG_HINT
from codesmith.ssh.passwords import TOO_MANY
from codesmith.ssh.target import Target

POSSIBLE_CAUSES = "its account, or a rule of PAM, may forbid it: an expired account, /etc/nologin, pam_access"
EXPIRED = "the password has expired, and sshd wants a new one"


def explain_ending(target: Target, message: str, keys_tried: int) -> tuple[str, str]:
    """Return why sshd ended the login, with sshd's `message` if there is one, and a hint."""
    quote = f"; it said: {message}" if message else ""
    if TOO_MANY in message:
        host = target.alias or target.host
        fewer = f"in ~/.ssh/config, for Host {host}: IdentitiesOnly yes, and IdentityFile with the right key"
        hint = fewer if keys_tried > 1 else target.ssh_line("ssh-copy-id")
        return f"sshd there ended the login after too many attempts (MaxAuthTries){quote}", hint
    return "sshd there ended the login" + (quote or f" without a reason ({POSSIBLE_CAUSES})"), SSHD_LOG_HINT


def refusal_hint(target: Target) -> str:
    """Return the hint for a login that sshd refused: a wrong key and a login that nobody may use look alike."""
    return f"{target.ssh_line('ssh-copy-id')}  # or sshd accepts no key for {target.user}: {SSHD_LOG_HINT}"
