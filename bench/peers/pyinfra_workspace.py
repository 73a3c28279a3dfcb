"""A user and a directory of its own, as a pyinfra deploy."""

import os

from pyinfra.operations import files, server

login = os.environ["BENCH_LOGIN"]
server.user(user=login, home=f"/home/{login}", ensure_home=True)
files.directory(path=f"/srv/{login}", mode="700", user=login, group=login)
