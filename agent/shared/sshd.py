"""Whether sshd would accept a CodeSmith login: asks sshd for the settings of that login (sshd -T -C).

Changes nothing, and imports only modules that import nothing else of the agent: see needs.py.
"""

from __future__ import annotations

import grp
import itertools
import os
import pwd
import re
import stat
import subprocess
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from agent.shared.pam import FIX, GROUPS, SEE_GROUPS, joined, keeping_out
from agent.shared.paths import BASE, SYSTEM_PATH

Answer = Tuple[str, str, str]
Settings = Dict[str, List[str]]

OK, UNKNOWN, WARN = RANK = ("ok", "unknown", "warn")
HOMES = f"{BASE}/home"
KEYS_FILE = ".ssh/authorized_keys"
# So many logins are checked; each takes some milliseconds.
SAMPLE = 5
ANY_LOGIN = "cs-any"
PATTERN = "cs-*"
CONFIG = "/etc/ssh/sshd_config"
DROP_IN = "/etc/ssh/sshd_config.d/00-codesmith.conf"
# It is not known from where somebody will log in: this address matches only Match blocks for all addresses.
NOWHERE = "0.0.0.0"
TIMEOUT_S = 10
EVERYWHERE = ("", "*", "0.0.0.0/0")
# Its name today and, up to OpenSSH 8.4, before; algorithms by which an RSA key signs; a kind of keys.
ACCEPTED = ("PubkeyAcceptedAlgorithms", "PubkeyAcceptedKeyTypes")
RSA = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
KIND = re.compile(r"(ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+")
KEYS_MAX = 1 << 16
TITLE = re.compile(r"sshd: (\S.*) \[listener\] \d+ of ")


class Daemon(NamedTuple):
    """One sshd: its program, the options that select its configuration, and the command that reloads it."""

    program: str
    options: Tuple[str, ...]
    reload: str


def check(login: str = "") -> Answer:
    """Return status, detail and fix: would `login` get in with a key in its home? Every sshd that listens is asked.

    Without `login`, up to SAMPLE existing logins are checked, since rules may name groups; without any, a possible one.
    """
    if os.geteuid() != 0:
        return UNKNOWN, "only root can ask sshd whether logins work", ""
    daemons = list(_daemons())
    if not daemons:
        return UNKNOWN, "there is no sshd to ask: whether logins work is not known", "apt-get install openssh-server"
    logins = [login] if login else _some_logins()
    return max((_check(daemons, one) for one in logins), key=lambda answer: RANK.index(answer[0]))


def _some_logins() -> List[str]:
    logins = (account.pw_name for account in pwd.getpwall() if account.pw_dir == f"{HOMES}/{account.pw_name}")
    return list(itertools.islice(logins, SAMPLE)) or [ANY_LOGIN]


def _check(daemons: List[Daemon], login: str) -> Answer:
    answers = [_ask(daemon, login, _groups_of(login)) for daemon in daemons]
    status = max((answer[0] for answer in answers), key=RANK.index)
    (detail, fix), *more = [answer[1:] for answer in answers if answer[0] == status]
    others = f"; another of {len(answers)} sshds lets it in" if status != OK and len(more) + 1 < len(answers) else ""
    return status, f"{detail}{others}", fix


def _groups_of(login: str) -> List[str]:
    try:
        account = pwd.getpwnam(login)
        return [grp.getgrgid(gid).gr_name for gid in os.getgrouplist(login, account.pw_gid)]
    except KeyError:
        return [login]


def _ask(daemon: Daemon, login: str, groups: List[str]) -> Answer:
    settings, problem = _settings(daemon, login)
    if settings is None:
        return UNKNOWN, f"sshd does not say whether logins work: {problem}", f"{daemon.program} -T"
    problems = [*_keys(settings, login), *_session(settings), *_lists(settings, login, groups)]
    uses_pam = _first(settings, "usepam") == "yes"
    problems += [(text, "") for text in keeping_out(login, groups, uses_pam=uses_pam)]
    given = joined(login, groups) if uses_pam else []
    if given and not problems:
        return WARN, f"PAM puts logins into the group {', '.join(given)} ({GROUPS})", SEE_GROUPS
    if not problems:
        return OK, "sshd reads the keys of logins, and lets them in", ""
    directives = [directive for _, directive in problems if directive]
    which = f" by {' '.join((daemon.program, *daemon.options))}" if daemon.options else ""
    detail = f"logins cannot work{which}: {'; '.join(text for text, _ in problems)}"
    return WARN, detail, _fix(daemon, directives) if directives else FIX


def _daemons() -> Iterator[Daemon]:
    """Yield each sshd of this system that listens; when there is none, the installed one, since systemd may listen."""
    daemons: Dict[Tuple[str, ...], Daemon] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{pid}").st_uid != 0:
                continue
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                title = TITLE.match(file.read().replace("\0", " "))
            # An sshd in a container does not serve the logins of this system.
            if title and os.readlink(f"/proc/{pid}/ns/pid") == os.readlink("/proc/self/ns/pid"):
                program, *words = title[1].split()
                options = _options(words)
                daemons[options] = Daemon(program, options, f"kill -HUP {pid}")
        except OSError:
            continue  # it has ended, or may not be read
    places = (f"{folder}/sshd" for folder in SYSTEM_PATH.split(":"))
    installed = next((path for path in places if os.path.exists(path)), "")
    if not daemons and installed:
        daemons[()] = Daemon(installed, (), "true")  # systemd starts one for each login
    yield from daemons.values()


def _options(words: List[str]) -> Tuple[str, ...]:
    """Return the options that select the configuration."""
    pairs = zip(words, [*words[1:], ""])
    return tuple(word for option, value in pairs if option in ("-f", "-o", "-p") for word in (option, value))


def _settings(daemon: Daemon, login: str) -> Tuple[Optional[Settings], str]:
    """Return sshd's settings for a login, by lower-case keyword, or None and the reason why there are none."""
    spec = f"user={login},host={NOWHERE},addr={NOWHERE}"
    try:
        done = subprocess.run(
            [daemon.program, "-T", *daemon.options, "-C", spec], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, encoding="utf-8", errors="replace", env={"PATH": SYSTEM_PATH, "LC_ALL": "C.UTF-8"},
            timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    if done.returncode:
        return None, (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
    settings: Settings = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        settings.setdefault(key.lower(), []).append(value)
    return settings, ""


def _first(settings: Settings, key: str) -> str:
    return settings.get(key, [""])[0]


def _keys(settings: Settings, login: str) -> Iterator[Tuple[str, str]]:
    """Yield each reason why a key does not suffice, and the directive that changes it."""
    if _first(settings, "pubkeyauthentication") == "no":
        yield "sshd takes no keys (PubkeyAuthentication no)", "PubkeyAuthentication yes"
    files = _first(settings, "authorizedkeysfile") or f"{KEYS_FILE} {KEYS_FILE}2"
    home = f"{HOMES}/{login}"
    keys_file = os.path.realpath(f"{home}/{KEYS_FILE}")
    if keys_file not in [os.path.realpath(os.path.join(home, _expanded(word, login, home))) for word in files.split()]:
        text = f"sshd does not read keys in {KEYS_FILE} of the home (AuthorizedKeysFile {files})"
        yield text, f"AuthorizedKeysFile {KEYS_FILE}"
    yield from _kinds(settings, home)
    methods = [word for line in settings.get("authenticationmethods", []) for word in line.split()]
    if methods and "any" not in methods and "publickey" not in methods:
        yield (
            f"a key alone is not enough (AuthenticationMethods {' '.join(methods)})",
            "AuthenticationMethods publickey",
        )


def _kinds(settings: Settings, home: str) -> Iterator[Tuple[str, str]]:
    """Yield what keeps the keys of a login from opening when sshd takes none of their kinds."""
    keyword = next((one for one in ACCEPTED if one.lower() in settings), "")
    accepted = _first(settings, keyword.lower()).split(",")
    found = _kinds_in(home)
    algorithms = [name for kind in found for name in (*RSA.get(kind, ()), kind)]
    if keyword and found and not any(_matches(name, pattern) for name in algorithms for pattern in accepted):
        text = f"sshd takes no keys of the kind {' or '.join(found)} ({keyword} {','.join(accepted)})"
        yield text, f"{keyword} +{','.join(algorithms)}"


def _kinds_in(home: str) -> List[str]:
    """Return the kinds of a login's keys, without following what its user put in the way."""
    place, text = -1, ""
    try:
        for name in ("", *os.path.dirname(KEYS_FILE).split("/"), os.path.basename(KEYS_FILE)):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            above, place = place, os.open(name or home, flags, dir_fd=None if place < 0 else place)
            if above >= 0:
                os.close(above)
        if stat.S_ISREG(os.fstat(place).st_mode):
            text = os.read(place, KEYS_MAX).decode("ascii", "replace")
    except OSError:
        pass
    finally:
        if place >= 0:
            os.close(place)
    return sorted({word for line in text.splitlines() for word in line.split() if KIND.fullmatch(word)})


def _expanded(path: str, login: str, home: str) -> str:
    tokens = {"%%": "%", "%h": home, "%u": login}
    return re.sub("%.", lambda token: tokens.get(token[0], token[0]), path)


def _session(settings: Settings) -> Iterator[Tuple[str, str]]:
    """Yield each setting that restricts the session, and the directive that changes it."""
    for key, keyword, text in (
        ("forcecommand", "ForceCommand", "another command takes the place of the shell"),
        ("chrootdirectory", "ChrootDirectory", "workspaces are out of sight"),
    ):
        value = _first(settings, key)
        if value not in ("", "none"):
            yield f"{text} ({keyword} {value})", f"{keyword} none"
    if _first(settings, "maxsessions") == "0":
        yield "there is no session (MaxSessions 0)", "MaxSessions 10"
    if _first(settings, "permittty") == "no":
        yield "there is no terminal (PermitTTY no)", "PermitTTY yes"


def _lists(settings: Settings, login: str, groups: List[str]) -> Iterator[Tuple[str, str]]:
    """Yield each list that refuses the login, and its directive. Patterns with a host are taken to mean other hosts."""
    for key, keyword, names in (("denyusers", "DenyUsers", [login]), ("denygroups", "DenyGroups", groups)):
        for pattern in _patterns(settings, key):
            who, _, host = pattern.partition("@")
            if host in EVERYWHERE and any(_matches(name, who) for name in names):
                yield f"{keyword} {pattern} in {CONFIG} keeps it out: take that out there", ""
    for key, keyword, names in (("allowusers", "AllowUsers", [login]), ("allowgroups", "AllowGroups", groups)):
        allowed = _patterns(settings, key)
        if allowed and not any(_matches(name, one.partition("@")[0]) for one in allowed for name in names):
            yield f"it is not among {keyword} ({' '.join(allowed)})", f"{keyword} {' '.join([*allowed, PATTERN])}"


def _patterns(settings: Settings, key: str) -> List[str]:
    return [word for line in settings.get(key, []) for word in line.split()]


def _matches(name: str, pattern: str) -> bool:
    """Return whether a name matches a pattern of ssh_config(5) with * and ?."""
    return re.fullmatch("".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern), name) is not None


def _fix(daemon: Daemon, directives: List[str]) -> str:
    """Return the commands that change the directives for CodeSmith logins only: the first Match block counts."""
    block = [f"Match User {PATTERN}", *directives]
    file = daemon.options[daemon.options.index("-f") + 1] if "-f" in daemon.options else CONFIG
    with open(file, encoding="utf-8", errors="replace") as config:
        lines = [line.replace("=", " ").split() or [""] for line in config]
    first = next((number for number, words in enumerate(lines) if words[0].lower() == "match"), len(lines))
    has_drop_ins = any(
        words[0].lower() == "include" and os.path.dirname(DROP_IN) in " ".join(words) for words in lines[:first]
    )
    if first < len(lines) and not has_drop_ins:
        text = "\\n".join(block)
        return f"sed -i '{first + 1}i{text}' {file}; {daemon.reload}"
    place = f">{DROP_IN}" if has_drop_ins and os.path.isdir(os.path.dirname(DROP_IN)) else f">>{file}"
    shown = " ".join(f"'{line}'" for line in block)
    return f"printf '%s\\n' {shown} {place}; {daemon.reload}"
