"""What somebody changes on a prepared node, and the steps that mend it."""

from __future__ import annotations

from codesmith.bootstrap import layout

UNIT = f"{layout.UNIT_DIR}/{layout.AGENT_SERVICE}"
RESTART = f"service {layout.AGENT_SERVICE}"
PROGRAM = f"program {layout.RELEASES}/RELEASE/program"
THERE = f"{layout.CURRENT}/program"
CACHED = f"{THERE}/agent/__pycache__/main.cpython-311.pyc"
# A default access list for uid 1000, as setfacl writes it; a minimal Debian has no setfacl.
ACL = "02000000 01000700ffffffff 02000700e8030000 04000500ffffffff 10000700ffffffff 20000500ffffffff".replace(" ", "")
SET_ACL = (
    "python3 -c 'import os, sys; os.setxattr(os.path.realpath(sys.argv[1]), "
    f'"system.posix_acl_default", bytes.fromhex("{ACL}"))\''
)
DRIFT = {
    "a changed unit file": (f"echo '# edited' >>{UNIT}", [f"unit {layout.AGENT_SERVICE}", "reload systemd", RESTART]),
    "a removed unit file": (
        f"rm $(readlink -f {UNIT})",
        [f"unit {layout.AGENT_SERVICE}", "reload systemd", RESTART],
    ),
    "a lost link to a unit": (f"rm {UNIT}", [f"link {UNIT}", "reload systemd", RESTART]),
    "a wrong mode": ("chmod 777 /srv/codesmith/.trash", ["directory /srv/codesmith/.trash"]),
    "a wrong owner": ("chown games /srv/codesmith/home", ["directory /srv/codesmith/home"]),
    "a missing directory": ("rmdir /srv/codesmith/workspaces", ["directory /srv/codesmith/workspaces"]),
    "a stopped socket": ("systemctl stop codesmith-helper.socket", ["service codesmith-helper.socket"]),
    "a stopped agent": ("systemctl stop codesmith-agent.service", [RESTART]),
    # `systemctl disable` removes the link to the unit too.
    "a disabled socket": (
        "systemctl disable codesmith-agent.socket",
        [
            f"link {layout.UNIT_DIR}/{layout.AGENT_SOCKET}",
            f"enable {layout.AGENT_SOCKET}",
            f"service {layout.AGENT_SOCKET}, {layout.AGENT_SERVICE}",
        ],
    ),
    "a disabled agent": (
        "systemctl disable codesmith-agent.service",
        [f"link {UNIT}", f"enable {layout.AGENT_SERVICE}", RESTART],
    ),
    "an agent that is not started at boot": (
        "rm /etc/systemd/system/multi-user.target.wants/codesmith-agent.service; systemctl daemon-reload",
        ["enable codesmith-agent.service"],
    ),
    "a changed agent": (
        "echo x >>/usr/lib/codesmith/current/agent.pyz",
        [f"release {layout.RELEASES}/RELEASE/agent.pyz", PROGRAM, RESTART],
    ),
    "a changed file of the program": (f"echo x >>{THERE}/agent/main.py", [PROGRAM, RESTART]),
    "a changed compiled file": (f"echo x >>{CACHED}", [PROGRAM, RESTART]),
    "a compiled file that another file replaces": (f"cp {CACHED.replace('main', 'dial')} {CACHED}", [PROGRAM, RESTART]),
    "a missing file of the program": (f"rm {THERE}/agent/dial.py", [PROGRAM, RESTART]),
    "missing compiled files": (f"rm -r {THERE}/agent/__pycache__", [PROGRAM, RESTART]),
    "an added file": (f"echo x >{THERE}/agent/added.py", [PROGRAM, RESTART]),
    "an added compiled file": (f"touch {THERE}/agent/__pycache__/main.cpython-99.pyc", [PROGRAM, RESTART]),
    "a link in place of a folder": (
        f"mv {THERE}/agent/git /run/git; ln -s /run/git {THERE}/agent/git",
        [PROGRAM, RESTART],
    ),
    "a folder in place of a file": (f"rm {CACHED}; mkdir -p {CACHED}/x", [PROGRAM, RESTART]),
    "a file that others may write": (f"chmod 666 {THERE}/agent/main.py", [PROGRAM, RESTART]),
    "an access list": (f"{SET_ACL} {THERE}", [PROGRAM, RESTART]),
    "lost sums": (f"rm {THERE}/compiled.json", [PROGRAM, RESTART]),
    "a lost program": (f"rm -r {THERE}", [PROGRAM, RESTART]),
    "a lost link": (
        f"rm {layout.CURRENT}",
        [
            f"link {layout.CURRENT}",
            "reload systemd",
            f"service {', '.join(layout.ENABLED)}",
        ],
    ),
    "a lost ledger": (f"rm {layout.LEDGER}", [f"ledger {layout.LEDGER}"]),
    "a lost id": (f"rm {layout.NODE}", [f"node {layout.NODE}"]),
    "an open ledger": (f"chmod 666 {layout.LEDGER}", [f"ledger {layout.LEDGER}"]),
    "a user in a group too many": ("usermod -aG adm codesmith", ["user codesmith", RESTART]),
    "a removed group": (
        "groupdel codesmith-clients",
        ["group codesmith-clients", f"service {', '.join(layout.ENABLED)}"],
    ),
    "a socket for everybody": (
        f"chmod 666 {layout.SOCKET}",
        [f"service {layout.AGENT_SOCKET}, {layout.AGENT_SERVICE}"],
    ),
    "a lost socket": (f"rm {layout.SOCKET}", [f"service {layout.AGENT_SOCKET}, {layout.AGENT_SERVICE}"]),
}
