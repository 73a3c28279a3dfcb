"""The node, for pyinfra: where it is comes from the environment."""

import os

nodes = [
    (
        os.environ["BENCH_HOST"],
        {
            "ssh_port": int(os.environ["BENCH_PORT"]),
            "ssh_user": "root",
            "ssh_key": os.environ["BENCH_IDENTITY"],
            "ssh_known_hosts_file": os.environ["BENCH_KNOWN_HOSTS"],
            "ssh_strict_host_key_checking": "yes",
            "ssh_allow_agent": False,
            "ssh_look_for_keys": False,
        },
    )
]
