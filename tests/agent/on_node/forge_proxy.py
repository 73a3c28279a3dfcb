"""Runs on the forge's node: a proxy (8445) that joins its clients to where they want, if they have ada's password.

What was asked for is noted in /tmp/proxied.
"""

import base64
import http.server
import select
import socket
import sys

WANTED = "Basic " + base64.b64encode(f"ada:{sys.argv[1]}".encode()).decode()


class Proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # git asks without the password first, and again on the same connection

    def do_CONNECT(self):
        is_known = self.headers.get("Proxy-Authorization") == WANTED
        with open("/tmp/proxied", "a") as file:
            file.write(f"{self.path} {'let' if is_known else 'refused'}\n")
        if not is_known:
            self.send_response(407)
            self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as far:
            self.send_response(200)
            self.end_headers()
            self.close_connection = True
            self.join(far)

    def join(self, far):
        ends = {self.connection: far, far: self.connection}
        while True:
            for ready in select.select(list(ends), [], [])[0]:
                data = ready.recv(65536)
                if not data:
                    return
                ends[ready].sendall(data)

    def log_message(self, *words):
        pass


http.server.ThreadingHTTPServer(("", 8445), Proxy).serve_forever()
