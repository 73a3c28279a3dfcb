"""Turn what a look found on a node into findings. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from codesmith.bootstrap import door, layout, uids
from codesmith.bootstrap.facts import Facts
from codesmith.bootstrap.plan import plan
from codesmith.bootstrap.support import refuse_unsupported
from codesmith.bootstrap.uids import plan_uids
from codesmith.doctor.finding import Finding, Reporter
from codesmith.doctor.look import Look
from codesmith.errors import SecretNeeded, Unsupported
from codesmith.ssh.sudo import without_password

# The limit below which the agent's own health check is degraded, too.
FREE_WARN_BYTES = 256 * layout.MIB
DISKS = {"disk.srv": "/srv", "disk.usr": "/usr", "disk.var": "/var"}
SKEW_WARN_S = 5.0
PREPARE = "inv node.prepare"
SHOWN_MAX = 5
UNSEEN = "only root can check this"


def judge(name: str, look: Look, desired: layout.Desired, known_id: str) -> list[Finding]:
    """Return a finding for each check; `known_id` is the id that the node had before, empty if it is unknown."""
    say, facts, option = Reporter(name), look.facts, f"--node {shlex.quote(name)}"
    found = [_look(say, look), _root(say, look, option), _system(say, facts, desired, option), _clock(say, look)]
    found += [*_disks(say, facts), *_needs(say, facts, option)]
    if facts.is_ledger_unread:
        detail = "it is installed, but there is no Python to run it"
        return [*found, say.fail("agent.installed", detail, f"inv node.prepare {option}")]
    is_seen = not {layout.CURRENT, "units"} & set(facts.unseen)
    if is_seen and not facts.files.get(layout.CURRENT) and _load_state(facts) in ("not-found", ""):
        return [*found, say.fail("agent.installed", "there is no CodeSmith agent", f"inv node.prepare {option}")]
    found += [
        say.ok("agent.installed", layout.CURRENT) if is_seen else _unknown(say, "agent.installed"),
        _node_id(say, facts, known_id, option),
        _units(say, facts, option),
    ]
    found += [_accounts(say, look, option), *_door(say, look, option), _uids(say, look, option)]
    return [*found, *_agent(say, look, desired, option), _drift(say, look, desired, option)]


def _load_state(facts: Facts) -> str:
    return facts.units.get(layout.AGENT_SERVICE, {}).get("LoadState", "")


def _look(say: Reporter, look: Look) -> Finding:
    unseen = look.facts.unseen
    if not unseen:
        return say.ok("node.look", "complete")
    listed = "; ".join(f"{what}: {why}" for what, why in unseen.items())
    detail = f"could not look at {listed}; whether it exists is unknown"
    paths = [what for what in unseen if what.startswith("/")]
    then = f"on the node, as root: {shlex.join(['ls', '-ld', *paths])}" if paths else "on the node: systemctl status"
    return say.fail("node.look", detail, then) if look.is_root else say.warn("node.look", detail, then)


def _unknown(say: Reporter, code: str) -> Finding:
    return say.warn(code, "unknown: see node.look", "fix what node.look names, then: inv node.doctor")


def _root(say: Reporter, look: Look, option: str) -> Finding:
    if look.is_root:
        return say.ok("node.root", f"{look.facts.login} can check everything")
    user, error = look.facts.login, look.refusal
    limits = f"only what {user} can read was checked"
    if error is None:
        return say.warn("node.root", f"{user} is not root: {limits}", f"inv node.doctor {option}")
    if isinstance(error, SecretNeeded):
        # Before it has the password sudo says no more than this, even if it allows the login nothing.
        detail = f"sudo asks for the password of {user}, and node.doctor gives none: {limits}"
        by_password = f"inv node.verify {option} --sudo-password-file PATH"
        return say.warn("node.root", detail, f"{by_password}; or, without a password: {without_password(user)}")
    return say.warn("node.root", f"{error.problem}: {limits}", error.hint or f"inv node.doctor {option}")


def _system(say: Reporter, facts: Facts, desired: layout.Desired, option: str) -> Finding:
    if {"systemd", "process 1", *layout.SPACES} & set(facts.unseen):
        return _unknown(say, "node.system")
    try:
        refuse_unsupported(facts, desired)
    except Unsupported as error:
        return say.fail("node.system", error.problem, f"fix it there, then: inv node.prepare {option} --plan")
    system = facts.os.get("pretty_name") or facts.os.get("id") or "Linux"
    python = ".".join(map(str, facts.python)) if facts.python else "missing"
    return say.ok("node.system", f"{system}, {facts.arch}, systemd {facts.systemd_version}, Python {python}")


def _clock(say: Reporter, look: Look) -> Finding:
    if abs(look.skew_s) <= SKEW_WARN_S:
        return say.ok("node.clock", "agrees with this machine")
    side = "ahead of" if look.skew_s > 0 else "behind"
    detail = f"{abs(look.skew_s):.0f} s {side} this machine: times in lists and in the audit record are wrong"
    return say.warn("node.clock", detail, "on the node, as root: timedatectl set-ntp true")


def _disks(say: Reporter, facts: Facts) -> Iterator[Finding]:
    for code, path in DISKS.items():
        free = facts.spaces.get(path, {}).get("free_bytes")
        if free is None:
            continue
        detail = f"{free // layout.MIB} MiB free in {path}"
        look = f"on the node: df -h {path}"
        if free < layout.FREE_MIN_BYTES[path]:
            yield say.fail(code, f"{detail}: changes fail, and the agent cannot be upgraded", look)
        elif free < FREE_WARN_BYTES:
            yield say.warn(code, detail, look)
        else:
            yield say.ok(code, detail)


def _needs(say: Reporter, facts: Facts, option: str) -> Iterator[Finding]:
    """Yield what the agent's list of needs found; nothing if the node has no Python to run it."""
    bad = [need for need in facts.needs if need["status"] != "ok"]
    for need in bad:
        report = say.fail if need["status"] == "fail" else say.warn
        yield report("node.needs", f"{need['detail']} (for {need['purpose']})", _next_command(need["fix"], option))
    if facts.needs and not bad:
        yield say.ok("node.needs", ", ".join(need["name"] for need in facts.needs))


def _next_command(fix: str, option: str) -> str:
    if fix == PREPARE:
        return f"{fix} {option}"
    return f"on the node, as root: {fix}" if fix else f"inv node.doctor {option}, as a login that can become root"


def _node_id(say: Reporter, facts: Facts, known_id: str, option: str) -> Finding:
    if layout.NODE in facts.unseen and not isinstance(facts.node, dict):
        return _unknown(say, "agent.node-id")
    if not facts.node_id:
        return say.fail("agent.node-id", f"{layout.NODE} has no id", f"inv node.prepare {option}")
    if known_id and known_id != facts.node_id:
        detail = f"it was {known_id} before and is {facts.node_id} now: another machine, or one that was set up again"
        return say.fail("agent.node-id", detail, f"if that is right: inv node.prepare {option}")
    return say.ok("agent.node-id", facts.node_id)


def _units(say: Reporter, facts: Facts, option: str) -> Finding:
    def those(key: str, wanted: str) -> str:
        return ", ".join(name for name in layout.ENABLED if facts.units.get(name, {}).get(key) != wanted)

    if "units" in facts.unseen:
        return _unknown(say, "agent.units")
    idle, disabled = those("ActiveState", "active"), those("UnitFileState", "enabled")
    if idle:
        return say.fail("agent.units", f"not active: {idle}", f"inv node.start {option}; inv node.logs {option}")
    if disabled:
        return say.warn("agent.units", f"not started at boot: {disabled}", f"inv node.prepare {option}")
    return say.ok("agent.units", f"active: {', '.join(layout.ENABLED)}")


def _accounts(say: Reporter, look: Look, option: str) -> Finding:
    repair = f"inv node.prepare {option}"
    if look.facts.accounts is None:
        return say.warn("node.accounts", UNSEEN if not look.is_root else "the agent there cannot check this", repair)
    drift = look.facts.accounts.get("drift", {})
    changed = [f"{login}: {', '.join(found)}" for login, found in sorted(drift.items())]
    more = f" and {len(changed) - SHOWN_MAX} more" if len(changed) > SHOWN_MAX else ""
    if changed:
        return say.warn("node.accounts", "; ".join(changed[:SHOWN_MAX]) + more, repair)
    return say.ok("node.accounts", "as CodeSmith made them: closed, or open for the node's sshd alone")


def _door(say: Reporter, look: Look, option: str) -> Iterator[Finding]:
    prepare = f"inv node.prepare {option}"
    if look.facts.door is None:
        yield say.warn("node.door", UNSEEN if not look.is_root else "the agent there cannot check this", prepare)
        return
    problems = door.problems(look.facts)
    state = "open all the same" if look.facts.door.get("open") else "so it is shut"
    for one in problems:
        yield say.warn("node.door", f"{one['problem']}; {state}", one["fix"].replace("inv node.prepare", prepare))
    if not problems and not look.facts.door.get("open"):
        yield say.warn("node.door", "shut, and sshd would do what it must", prepare)
    elif not problems:
        yield say.ok("node.door", "open: sshd leads users with a key into their workspaces, and nowhere else")


def _uids(say: Reporter, look: Look, option: str) -> Finding:
    problem = uids.problem(look.facts)
    if problem:
        return say.fail("node.uids", problem, "on the node: cat /proc/self/uid_map /etc/subuid /etc/login.defs")
    if plan_uids(look.facts):
        detail = f"{layout.UIDS} does not name uids that are free there, or those of its users"
        return say.fail("node.uids", detail, f"inv node.prepare {option}")
    others = (look.facts.accounts or {}).get("uids", ())
    if others:
        return say.warn("node.uids", "; ".join(others[:SHOWN_MAX]), "on the node: grep . /etc/subuid /etc/subgid")
    first, last = look.facts.uid_ranges[0]
    return say.ok("node.uids", f"{first} to {last}")


def _agent(say: Reporter, look: Look, desired: layout.Desired, option: str) -> Iterator[Finding]:
    version, health = look.calls.get("node.version"), look.calls.get("node.health")
    if version is None or health is None:
        # Prepare adds the login to the clients' group.
        task = "prepare" if "ermission denied" in look.no_answer else "restart"
        yield say.fail("agent.answers", f"no: {look.no_answer}", f"inv node.{task} {option}; inv node.logs {option}")
        return
    yield say.ok("agent.answers", f"as {look.facts.login}, by {layout.SOCKET}")
    if version.get("build") == desired.sha256:
        yield say.ok("agent.version", f"{version.get('agent')} ({desired.sha256[:12]})")
    else:
        there = f"{version.get('agent')} ({str(version.get('build'))[:12]})"
        detail = f"{there} runs, this CodeSmith has {desired.version} ({desired.sha256[:12]})"
        yield say.warn("agent.version", detail, f"inv node.prepare {option}")
    yield _health(say, health, option)


def _health(say: Reporter, health: dict[str, object], option: str) -> Finding:
    checks = [check for check in health.get("checks") or [] if isinstance(check, dict)]  # type: ignore[attr-defined]
    bad = "; ".join(f"{check.get('name')}: {check.get('detail')}" for check in checks if check.get("status") != "ok")
    if health.get("status") == "ok":
        return say.ok("agent.health", f"{len(checks)} checks are ok")
    if health.get("status") == "failing":
        return say.fail("agent.health", bad, f"inv node.health {option}")
    return say.warn("agent.health", bad, f"inv node.health {option}")


def _drift(say: Reporter, look: Look, desired: layout.Desired, option: str) -> Finding:
    facts = look.facts
    show = f"inv node.prepare {option} --plan"
    if not look.is_root:
        return say.warn("agent.drift", UNSEEN, show)
    if facts.unseen:
        return _unknown(say, "agent.drift")
    try:
        steps = plan(facts, desired)
    except Unsupported:
        return say.warn("agent.drift", "unknown: see node.system", show)
    if facts.drop_ins and not steps:
        detail = f"others have added drop-ins to the units, which prepare leaves alone: {', '.join(facts.drop_ins)}"
        return say.warn("agent.drift", detail, f"on the node: cat {shlex.join(facts.drop_ins)}")
    if steps:
        more = f" and {len(steps) - 3} more" if len(steps) > 3 else ""
        return say.warn("agent.drift", "; ".join(step.text for step in steps[:3]) + more, show)
    return say.ok("agent.drift", "prepare has nothing to do")
