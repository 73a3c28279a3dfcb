"""Put the stand-in agent onto a real lab node, at the paths of the real one."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

from codesmith.lab.node import LabNode
from codesmith.tunnel import proof

STAND_IN = Path(__file__).with_name("stand_in_agent.py")
UNIT = f"""
[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/usr/bin/python3 {proof.AGENT_FILE} agent {proof.AGENT_SOCKET} NODE_ID
RuntimeDirectory=codesmith
RuntimeDirectoryMode=0755
Group=codesmith-clients
[Install]
WantedBy=multi-user.target
"""
SCRIPT = f"""
mkdir -p /usr/lib/codesmith/releases/0 /etc/codesmith
ln -sfn releases/0 /usr/lib/codesmith/current
groupadd --force --system codesmith-clients
cat > {proof.AGENT_FILE}
"""


def install(node: LabNode) -> str:
    """Install and start the stand-in on the node; return the node id that it gives."""
    node_id = str(uuid.uuid4())
    node.run(["sh", "-euc", SCRIPT], input=STAND_IN.read_text())
    write(node, proof.NODE_FILE, json.dumps({"node_id": node_id}))
    answer_as(node, node_id)
    return node_id


def answer_as(node: LabNode, node_id: str) -> None:
    """Make the agent give `node_id`, whatever the node's file says."""
    write(node, "/etc/systemd/system/codesmith-agent.service", UNIT.replace("NODE_ID", node_id))
    units = "systemctl daemon-reload; systemctl enable --quiet codesmith-agent; systemctl restart codesmith-agent"
    node.run(["sh", "-euc", units])
    wait_for_socket(node)


def wait_for_socket(node: LabNode) -> None:
    node.run(["sh", "-c", f"until grep -q ' 00010000 .*{proof.AGENT_SOCKET}' /proc/net/unix; do sleep 0.05; done"])


def set_sshd(node: LabNode, *lines: str) -> None:
    """Put these lines before all other settings of sshd; open connections keep the old ones."""
    # A reload would not wait until it listens again.
    script = "cat >/etc/ssh/sshd_config.d/00-tunnel.conf; systemctl reset-failed ssh; systemctl restart ssh"
    node.run(["sh", "-euc", script], input="".join(f"{line}\n" for line in lines))


def write(node: LabNode, path: str, text: str) -> None:
    node.run(["sh", "-euc", 'cat > "$1"', "sh", path], input=text)
