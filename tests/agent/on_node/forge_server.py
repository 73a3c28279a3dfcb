"""Runs on the forge's node: git over https (8443), and a door to which no credential may come (8444).

Paths below /moved/ lead to that door, those below /plain/ too, but without TLS, those below /file/ to a file, those
below /home/ to a port of whoever asks; those below /slow/ never answer, private repositories want the password. Below
/old/ it speaks the first protocol, in which nobody gets a commit that no branch or tag points at.
"""

import base64
import http.server
import os
import ssl
import subprocess
import sys
import threading
import time

HOST, PASSWORD = sys.argv[1:]
AWAY = {"/moved/": f"https://{HOST}:8444/", "/plain/": f"http://{HOST}:8444/", "/file/": "file:///srv/git/"}
AWAY["/home/"] = "https://127.0.0.1:8999/"
WANTED = "Basic " + base64.b64encode(f"x-access-token:{PASSWORD}".encode()).decode()


class Quiet(http.server.BaseHTTPRequestHandler):
    def refuse(self):
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="forge"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words):
        pass


class Forge(Quiet):
    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path.startswith("/old/"):
            path = path[4:]
            del self.headers["Git-Protocol"]
        if path.startswith(tuple(AWAY)):
            way, _, rest = self.path[1:].partition("/")
            self.send_response(302)
            self.send_header("Location", AWAY[f"/{way}/"] + rest)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif path.startswith("/slow/"):
            time.sleep(600)
        elif "/private" in path and self.headers.get("Authorization") != WANTED:
            self.refuse()
        else:
            self.serve(path, query)

    do_POST = do_GET

    def serve(self, path, query):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        environment = {
            **os.environ, "GIT_PROJECT_ROOT": "/srv/git", "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
            "QUERY_STRING": query, "REQUEST_METHOD": self.command, "CONTENT_LENGTH": str(len(body)),
            "CONTENT_TYPE": self.headers.get("Content-Type", ""), "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""), "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
            "GIT_CONFIG_KEY_1": "http.receivepack", "GIT_CONFIG_VALUE_1": "true",
        }  # fmt: skip
        done = subprocess.run(["git", "http-backend"], input=body, env=environment, stdout=subprocess.PIPE)
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for key, value in fields.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


class Thief(Quiet):
    def do_GET(self):
        with open("/tmp/stolen", "a") as file:
            file.write(str(self.headers))
        self.refuse()


def serve(port, handler):
    server = http.server.ThreadingHTTPServer(("", port), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("/srv/git/forge.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    threading.Thread(target=serve, args=(8444, Thief)).start()
    serve(8443, Forge)
