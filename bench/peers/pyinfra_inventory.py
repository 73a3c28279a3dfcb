"""The nodes for pyinfra, with addresses from the environment."""

import json
import os

nodes = [
    (
        address["host"],
        {
            "ssh_port": int(address["port"]),
            "ssh_user": "root",
            "ssh_key": address["identity"],
            "ssh_known_hosts_file": os.environ["BENCH_KNOWN_HOSTS"],
            "ssh_strict_host_key_checking": "yes",
            "ssh_allow_agent": False,
            "ssh_look_for_keys": False,
        },
    )
    for address in json.loads(os.environ["BENCH_NODES"])
]
