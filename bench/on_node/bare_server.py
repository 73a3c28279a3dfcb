"""Runs on the node until it is killed: the bare library, its pooled server on a Unix socket, with one method."""

import socket
import sys

sys.path.insert(0, "/usr/lib/codesmith/current/program")
from jsonrpclib.config import Config
from jsonrpclib.SimpleJSONRPCServer import PooledJSONRPCServer, SimpleJSONRPCRequestHandler
from jsonrpclib.threadpool import ThreadPool


class Handler(SimpleJSONRPCRequestHandler):
    """HTTP/1.1, so that connections are kept, as the agent keeps them."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = False

    def address_string(self):
        return "local"


def main():
    """Serve node.version on a Unix socket until the process is killed."""
    answer = {"agent": "0.2.0", "api": "1.0.0", "python": "3.11.2", "build": "0" * 64, "node_id": "0" * 36}
    pool = ThreadPool(max_threads=30, min_threads=16)
    pool.start()
    server = PooledJSONRPCServer(
        sys.argv[1], requestHandler=Handler, logRequests=False, config=Config(version=2.0, use_jsonclass=False),
        address_family=socket.AF_UNIX, thread_pool=pool,
    )  # fmt: skip
    server.register_function(lambda: answer, "node.version")
    server.serve_forever()


main()
