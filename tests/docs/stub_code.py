#!/usr/bin/env python3
"""Stands for VS Code with Remote SSH: opens a folder by the ssh calls that it makes, and prints a file of it.

One ssh with a SOCKS proxy and a shell; the script on its input installs a server inside and starts it; the editor then
reaches that server, on a loopback port inside, through the proxy.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys

SET_UP = """
set -e
mkdir -p ~/.vscode-server/bin; cd ~/.vscode-server/bin
cat > server.py <<'END'
import functools, http.server, sys
serve = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve)
print(server.server_port, flush=True)
server.serve_forever()
END
echo "platform $(uname -s) $(id -un)"
exec python3 server.py {folder} 2>/dev/null
"""


def main() -> None:
    """Open the folder that `--folder-uri` names, show its data/hello."""
    uri = sys.argv[sys.argv.index("--folder-uri") + 1]
    host, _, folder = uri.removeprefix("vscode-remote://ssh-remote+").partition("/")
    with socket.create_server(("127.0.0.1", 0)) as free:
        proxy = free.getsockname()[1]
    argv = ["ssh", "-T", "-D", str(proxy), "-o", "ConnectTimeout=15", host, "bash"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as ssh:
        assert ssh.stdin and ssh.stdout
        ssh.stdin.write(SET_UP.format(folder=f"/{folder}"))
        ssh.stdin.close()
        print(ssh.stdout.readline().strip())
        print(fetch(proxy, int(ssh.stdout.readline()), "/data/hello"))
        ssh.terminate()


def fetch(proxy: int, port: int, path: str) -> str:
    """Return a file from the server inside, by SOCKS 5."""
    with socket.create_connection(("127.0.0.1", proxy), 30) as connection:
        connection.sendall(b"\x05\x01\x00")
        assert connection.recv(2) == b"\x05\x00"
        connection.sendall(b"\x05\x01\x00\x01" + socket.inet_aton("127.0.0.1") + struct.pack("!H", port))
        assert connection.recv(10)[:2] == b"\x05\x00"
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return answer.partition(b"\r\n\r\n")[2].decode().strip()


if __name__ == "__main__":
    main()
