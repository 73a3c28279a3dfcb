"""The lab: boots nodes, finds them, removes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from codesmith.errors import BadArgument, CodeSmithError, StepFailed, UnknownName, Unsupported
from codesmith.lab import bridge as bridges
from codesmith.lab import disk, images, network, qemu, requirements, teardown, vm
from codesmith.lab.home import ensure_dir, lock_folder
from codesmith.lab.node import LabNode
from codesmith.lab.processes import Process
from codesmith.lab.programs import ProgramFailed
from codesmith.lab.record import Record
from codesmith.nodes.lab_home import lab_home, node_dir


class Lab:
    """The lab nodes of this machine.

    A node lives until `down` or until the process that booted it ends; with `keep` only until `down`. As a context
    manager it removes the nodes that it booted, unless `keep`. Several processes and threads may use the lab at once.
    """

    def __init__(self, *, keep: bool = False) -> None:
        requirements.check()
        self.owner = None if keep else Process.me()
        self.home = ensure_dir(lab_home())
        self.key = disk.ensure_key(self.home)
        self._mine: list[str] = []
        teardown.reap()

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *error: object) -> None:
        if self.owner is not None:
            for name in list(self._mine):
                self.down(name)

    def up(
        self, name: str, release: str = "bookworm", *, uids: int = 0, bridge: str = "", packages: Sequence[str] = ()
    ) -> LabNode:
        """Boot a node and wait until it is ready. If it exists it is returned, and switched on if it was off.

        With `uids` the node is in a user namespace with that many uids, like an unprivileged container. With `bridge`
        it shares the bridge of that name with the other nodes that ask for it. With `packages` a new node boots from an
        image that has those of Debian too, which is built once. StepFailed if it does not boot, CodeSmithError if it
        exists with another release or bridge.
        """
        folder = node_dir(check_name(name))
        if bridge and (uids or qemu.is_vm(release)):
            raise Unsupported("a virtual machine, or a node in a user namespace, cannot be on a bridge of the lab")
        if packages and qemu.is_vm(release):
            raise Unsupported("the packages of a virtual machine of the lab cannot be chosen")
        image = vm.ensure_image(release) if qemu.is_vm(release) else images.ensure(release, packages)
        record = self._ensure_record(name, release, image, folder, uids, bridge and check_name(bridge))
        if record.release != release:
            raise CodeSmithError(
                f"lab node {name!r} is a {record.release}, not a {release}", hint=f"inv lab.down --node {name}"
            )
        if bridge not in ("", record.bridge):
            there = f"the bridge {record.bridge!r}" if record.bridge else "no bridge"
            problem = f"lab node {name!r} is on {there}, not on {bridge!r}"
            raise CodeSmithError(problem, hint=f"inv lab.down --node {name}")
        node = _node(folder, record)
        try:
            # Other callers of `up` and `down` wait until it is up.
            with lock_folder(folder):
                node.ensure_disk(self.key.with_suffix(".pub").read_text())
                if node.state != "running":
                    requirements.ensure_inotify()
                    node.start()
        except FileNotFoundError:
            raise StepFailed(f"lab node {name!r} was removed while it booted", hint="inv lab.status") from None
        except ProgramFailed as error:
            raise StepFailed(f"lab node {name!r} does not boot: {error}", hint=f"inv lab.down --node {name}") from error
        return node

    def _ensure_record(self, name: str, release: str, image: Path, folder: Path, uids: int, bridge: str) -> Record:
        with teardown.claims_lock():
            record = Record.read(folder)
            if record is None:
                node_id = teardown.claim_id(name, folder)
                ensure_dir(folder)
                gateway, host = network.gateway_and_host(node_id)
                on_bridge = bridges.choose_address(bridge) if bridge else ""
                record = Record(name, release, str(image), node_id, host, gateway, self.owner, uids, bridge, on_bridge)
                record.write(folder)
                self._mine.append(name)
        return record

    def down(self, name: str) -> bool:
        """Remove a node with all its data; False if there was none."""
        folder = node_dir(check_name(name))
        if name in self._mine:
            self._mine.remove(name)
        if not folder.exists():
            return False
        teardown.remove(folder)
        return True

    def get(self, name: str) -> LabNode:
        """Return an existing node, on or off; UnknownName if there is none."""
        folder = node_dir(check_name(name))
        record = Record.read(folder)
        if record is None:
            raise UnknownName(f"no lab node {name!r}", hint=f"inv lab.up --node {name}")
        return _node(folder, record)

    def list(self) -> list[LabNode]:
        """Return all nodes, whoever booted them, by name."""
        return find_nodes()


def find_nodes() -> list[LabNode]:
    """Return all nodes of this lab home; this needs no requirements to be met."""
    records = [(folder, Record.read(folder)) for folder in teardown.folders()]
    return [_node(folder, record) for folder, record in records if record is not None]


def _node(folder: Path, record: Record) -> LabNode:
    return (vm.VmNode if qemu.is_vm(record.release) else LabNode)(folder, record)


def check_name(name: str) -> str:
    """Return `name` if it can be a folder, a host name and a word in ssh_config alike; else BadArgument."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name):
        raise BadArgument(
            f"{name!r} cannot be the name of a lab node or bridge: small letters, digits and -, at most 63"
        )
    return name
