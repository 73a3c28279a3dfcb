"""Errors of git and ssh: the lines that tell the cause, without secrets, and a hint that helps."""

from __future__ import annotations

import base64
import re
from typing import Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence
from urllib.parse import unquote, urlsplit

STDERR_MAX = 2000
LINES_MAX = 2
LINE_MAX = 300
SHORT_SECRET = 4
# The path of a credential in memory, which means nothing to the reader.
MEMORY = re.compile(r'"?/proc/\d+/fd/\d+"?')


class Cause(NamedTuple):
    """A cause of failed clones: the pattern of its line, and a hint with the fields {host}, {port} and {keys}."""

    pattern: str
    hint: str


PROXY = "behind a proxy: https_proxy=http://PROXY:PORT in the node's /etc/environment or /etc/codesmith/environment"
# The first match gives the hint.
CAUSES = (
    Cause(
        r"[Hh]ost key for .* has changed",
        "if {host} confirms that its key changed: remove the old one from ~/.ssh/known_hosts of the workspace's user, "
        "and give the new one with --known-hosts FILE",
    ),
    Cause(
        r"No .* host key is known for|Host key verification failed",
        "ssh-keyscan -p {port} {host} > known_hosts, compare it with what {host} publishes, then repeat the command "
        "with --known-hosts known_hosts",
    ),
    Cause(
        r"Load key .*:|UNPROTECTED PRIVATE KEY",
        "give a private key without passphrase with --credential-file FILE (ssh-keygen -p -f FILE removes it), or "
        "forward your ssh agent with --forward-agent",
    ),
    Cause(r"Permission denied \(|Too many authentication failures|agent refused operation", "{keys}"),
    Cause(r"ssh: Could not resolve hostname", "on the node: getent hosts {host}"),
    Cause(
        r"ssh: connect to host|Connection (?:closed|reset) by|kex_exchange_identification|timed out during banner",
        "on the node: ssh -v -p {port} {host}",
    ),
    Cause(r"Unable to negotiate with", "on the node: ssh -v -p {port} {host}"),
    Cause(r"resolve proxy|from proxy|[Uu]nsupported proxy|[Pp]roxy CONNECT|CONNECT tunnel|connect to proxy", PROXY),
    Cause(
        r"not match target host ?name|no alternative certificate subject name",
        "the certificate there is for another name than {host}: use that name in the URL",
    ),
    Cause(
        r"unexpected TLS packet|wrong version number",
        "what listens on port {port} of {host} does not speak TLS: check the port in the URL",
    ),
    Cause(
        r"SSL certificate|server (?:certificate )?verification failed|SSL_ERROR|gnutls_handshake|SSL routines|SSL: ",
        "if {host} has a certificate of your own authority: on the node, copy the authority's certificate to "
        "/usr/local/share/ca-certificates/NAME.crt and run update-ca-certificates",
    ),
    Cause(
        r"unable to access .*(?:resolve host|[Ff]ailed to connect|[Cc]onnection|timed out|Empty reply)",
        f"on the node: curl -v https://{{host}}:{{port}}; {PROXY}",
    ),
    Cause(
        r"Authentication failed|could not read (?:Username|Password)|returned error: 40[13]|Access denied|"
        r"[Ii]nvalid (?:username|credentials)",
        "{keys}",
    ),
    Cause(
        r"[Rr]epository .*not found|not appear to be a git repository|returned error: 404|could not be found|"
        r"not exported",
        "check the URL; hosts answer this for private repositories too: {keys}",
    ),
    Cause(
        r"Remote branch .* not found|is no commit of this|Unable to find [0-9a-f]{40}|not our ref|find remote ref",
        "name a branch, a tag or a whole commit hash with --ref",
    ),
)
# curl's message; newer releases add `via`.
UNREACHED = re.compile(r"[Ff]ailed to connect to (\S+) port (\d+)(?: via (\S+))?")


def deciding(stderr: str) -> str:
    """Return the one or two lines that tell the cause; git's error line, or its last line, where none is known."""
    lines = [line.strip() for line in MEMORY.sub("the given file", stderr).splitlines() if line.strip()]
    known = [line for line in lines if any(re.search(cause.pattern, line) for cause in CAUSES)]
    last = [line for line in lines if line.startswith(("fatal:", "error:"))][:1] or lines[-1:] or ["no message"]
    return "; ".join(line[:LINE_MAX] for line in list(dict.fromkeys(known))[:LINES_MAX] or last)


def hint_for(stderr: str, url: str, credential: Dict[str, str]) -> str:
    """Return a hint for the command line; empty for an unknown cause."""
    cause = next((cause for cause in CAUSES if re.search(cause.pattern, stderr)), None)
    if cause is None:
        return ""
    is_https = url.startswith("https:")
    split = urlsplit(url if "://" in url else "ssh://" + url.replace(":", "/", 1))
    port = split.port or (443 if is_https else 22)
    unreached = UNREACHED.search(stderr)
    if unreached and (unreached[3] or (unreached[1], int(unreached[2])) != (split.hostname, port)):
        place = unreached[3] or f"{unreached[1]}:{unreached[2]}"
        return f"{place} is the node's proxy: correct https_proxy in its /etc/environment or /etc/codesmith/environment"
    return cause.hint.format(host=split.hostname or "", port=port, keys=_keys_hint(is_https, credential))


def _keys_hint(is_https: bool, credential: Dict[str, str]) -> str:
    if is_https and credential:
        return "give a token that may read it with --credential-file FILE, and its --username if the host wants one"
    if is_https:
        return "give a token that may read it with --credential-file FILE"
    if "agent" in credential:
        return "ssh-add -l shows the keys of the forwarded agent: the host must know one of them"
    return "give a key that the host knows with --credential-file FILE, or forward your ssh agent with --forward-agent"


def redact(text: str, credential: Dict[str, str], more: Iterable[str] = ()) -> str:
    """Return a text without secrets, control characters and the user parts of URLs."""
    for secret in sorted({*_secrets(credential), *more}, key=len, reverse=True):
        if len(secret) >= SHORT_SECRET:
            text = text.replace(secret, "[redacted]")
    text = re.sub(r"(https?://)[^/@\s]+@", r"\1", text)
    return re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", " ", text)


def whole_lines(text: str) -> str:
    """Return a text without its first line if STDERR_MAX cut it: half of a secret would not be recognised."""
    return text if len(text) < STDERR_MAX else text.partition("\n")[2]


def _secrets(credential: Dict[str, str]) -> Sequence[str]:
    secrets: List[str] = [line for field in ("password", "ssh_key") for line in credential.get(field, "").splitlines()]
    password: Optional[str] = credential.get("password")
    if password is not None:  # as HTTP sends it
        secrets.append(base64.b64encode(f"{credential.get('username', '')}:{password}".encode()).decode())
    return secrets


def proxy_secrets(environment: Mapping[str, str]) -> List[str]:
    """Return what no message may show: the passwords of proxies, and their parts where one breaks a URL."""
    words = []
    for value in (value for name, value in environment.items() if name.lower().endswith("_proxy")):
        password = value.rpartition("@")[0].rpartition("://")[2].partition(":")[2]
        words += [password, unquote(password), *re.split("[/?#@]", password)]
    return [word for word in words if word]
