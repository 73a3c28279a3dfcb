"""The nodes, for pyinfra: where they are comes from the environment."""

import json
import os

nodes = [
    (
        way["host"],
        {
            "ssh_port": int(way["port"]),
            "ssh_user": "root",
            "ssh_key": way["identity"],
            "ssh_known_hosts_file": os.environ["BENCH_KNOWN_HOSTS"],
            "ssh_strict_host_key_checking": "yes",
            "ssh_allow_agent": False,
            "ssh_look_for_keys": False,
        },
    )
    for way in json.loads(os.environ["BENCH_WAYS"])
]
