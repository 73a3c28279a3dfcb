"""What people fetch things with, as scripts: `{host}` stands for where from."""

from __future__ import annotations

# Packages of Debian that the nodes have for them, beyond what every lab node has.
PACKAGES = ("npm", "python3-pip", "wget")
TRUST = "export NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt\n"
FRESH = "rm -rf got; mkdir got; cd got\n"
URLLIB = "import urllib.request as r; print(r.urlopen('{scheme}://{{host}}/hello', timeout=20).read().decode())"
FETCH = "fetch('https://{host}/hello').then(r => r.text()).then(console.log)"
GET = """require('{scheme}').get('{scheme}://{{host}}/hello', answer => {{
  if (answer.statusCode != 200) process.exit(1)
  answer.pipe(process.stdout)
}}).on('error', error => {{ console.error(error); process.exit(1) }})"""
CLONE = "git clone --quiet {url} repo && cat repo/two\n"
PIP = """python3 -m pip install --quiet --no-cache-dir --disable-pip-version-check --retries 0 --target . \\
  --index-url https://{host}/simple/ tiny-net && python3 -c "import tiny_net; print(tiny_net.greeting)"
"""
NPM = """npm install --silent --no-audit --no-fund --fetch-retries=0 --cache . \\
  --registry https://{host}/npm/ tiny-net && node -p "require('tiny-net')"
"""
# Name of the tool: its script, and what it prints when it got what it wanted.
TOOLS = {
    "git over https": (CLONE.format(url="https://{host}/git/public.git"), "two"),
    "pip": (PIP, "from the index"),
    "npm": (NPM, "from the registry"),
    "curl https": ("curl --silent --show-error --fail https://{host}/hello", "hello from {host} by https"),
    "curl http": ("curl --silent --show-error --fail http://{host}/hello", "hello from {host} by http"),
    "wget https": ("wget --quiet --tries=1 -O - https://{host}/hello", "hello from {host} by https"),
    "wget http": ("wget --quiet --tries=1 -O - http://{host}/hello", "hello from {host} by http"),
    "urllib https": (f'python3 -c "{URLLIB.format(scheme="https")}"', "hello from {host} by https"),
    "urllib http": (f'python3 -c "{URLLIB.format(scheme="http")}"', "hello from {host} by http"),
}
# From where a test with an allow-list fetches; what is not named here from web.test.
HOSTS = {"git over https": "git.test", "git over ssh": "git.test", "pip": "pypi.test", "npm": "npm.test"}
# Needs a key in ~/.ssh of the workspace, and the host's among those known.
SSH_NAME = "git over ssh"
SSH = (CLONE.format(url="git@{host}:/srv/git/public.git"), "two")
# Takes no notice of proxies in the versions that Debian has.
NODE_FETCH = (f'node -e "{FETCH}"', "hello from {host} by https")
# Where a test puts a Node that does.
NEW_NODE = "/usr/local/bin/new-node"
NEW_NODES = {
    "new Node, fetch https": (f'{NEW_NODE} -e "{FETCH}"', "hello from {host} by https"),
    "new Node, get https": (f'{NEW_NODE} -e "{GET.format(scheme="https")}"', "hello from {host} by https"),
    "new Node, get http": (f'{NEW_NODE} -e "{GET.format(scheme="http")}"', "hello from {host} by http"),
}
# Of Debian too, but so much larger that it has a test of its own.
CARGO_PACKAGES = ("cargo",)
CARGO = (
    """export CARGO_HOME=$PWD/home CARGO_REGISTRIES_TINY_INDEX=sparse+https://{host}/cargo/ CARGO_NET_RETRY=0
cargo init --quiet --vcs none --name app . && echo 'tiny-net = { version = "1", registry = "tiny" }' >> Cargo.toml
echo 'fn main() { println!("{}", tiny_net::GREETING) }' > src/main.rs; cargo run --quiet
""",
    "from the crates",
)


def script(tool: tuple[str, str], host: str) -> str:
    """Return the shell script in which a tool fetches from a host."""
    return TRUST + FRESH + tool[0].replace("{host}", host)


def wanted(tool: tuple[str, str], host: str) -> str:
    """Return what the tool prints in the end."""
    return tool[1].replace("{host}", host)
