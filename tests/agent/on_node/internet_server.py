"""Runs on the internet's node: every name and both ports (80, 443) lead here; what was asked is noted in /tmp/asked.

/hello says which name was asked for, /to?URL leads there, /git/NAME.git is git, /simple/ an index of Python packages,
/npm/ a registry of npm, /cargo/ an index of crates, /files/ what is in /srv/files. On IPv4 and IPv6.
"""

import base64
import hashlib
import http.server
import json
import os
import re
import socket
import ssl
import sys
import threading
import urllib.parse

sys.path.insert(0, "/root")
from serve import Forge  # the server of the forge, with the same arguments

FILES = "/srv/files"
PYTHON, NPM, CRATE = "tiny_net-1.0-py3-none-any.whl", "tiny-net-1.0.0.tgz", "tiny-net-1.0.0.crate"


class Internet(Forge):
    protocol_version = "HTTP/1.0"

    def do_GET(self):
        name = re.sub(r":\d+$", "", self.headers.get("Host", ""))
        with open("/tmp/asked", "a") as file:
            file.write(f"{self.scheme} {name} {self.command} {self.path}\n")
        path, _, query = self.path.partition("?")
        if path.startswith("/git/"):
            self.serve(path[len("/git") :], query)
        elif path == "/hello":
            self.answer(f"hello from {name} by {self.scheme}\n".encode())
        elif path == "/to":
            self.send_response(302)
            self.send_header("Location", urllib.parse.unquote(query))
            self.end_headers()
        elif path == "/simple/tiny-net/":
            digest = hashlib.sha256(self.file(PYTHON)).hexdigest()
            self.answer(f'<a href="/files/{PYTHON}#sha256={digest}">{PYTHON}</a>'.encode(), "text/html")
        elif path == "/npm/tiny-net":
            self.answer(json.dumps(self.package(name)).encode(), "application/json")
        elif path == "/cargo/config.json":
            self.answer(json.dumps({"dl": f"{self.scheme}://{name}/files/{{crate}}-{{version}}.crate"}).encode())
        elif path == "/cargo/ti/ny/tiny-net":
            digest = hashlib.sha256(self.file(CRATE)).hexdigest()
            about = {"name": "tiny-net", "vers": "1.0.0", "deps": [], "features": {}, "yanked": False, "cksum": digest}
            self.answer(json.dumps(about).encode())
        elif path.startswith("/files/") and os.path.basename(path) in os.listdir(FILES):
            self.answer(self.file(os.path.basename(path)), "application/octet-stream")
        else:
            self.send_error(404)

    do_POST = do_GET

    def package(self, name):
        content = hashlib.sha512(self.file(NPM)).digest()
        integrity = "sha512-" + base64.b64encode(content).decode()
        dist = {"tarball": f"{self.scheme}://{name}/files/{NPM}", "integrity": integrity}
        version = {"name": "tiny-net", "version": "1.0.0", "dist": dist}
        return {"name": "tiny-net", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}

    def file(self, name):
        with open(os.path.join(FILES, name), "rb") as file:
            return file.read()

    def answer(self, body, kind="text/plain"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6  # and IPv4

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def serve(port, scheme):
    server = Server(("::", port), type("Handler", (Internet,), {"scheme": scheme}))
    if scheme == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain("/srv/internet.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


threading.Thread(target=serve, args=(80, "http")).start()
serve(443, "https")
