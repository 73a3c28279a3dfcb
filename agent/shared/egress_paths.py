"""Where the way out of a workspace is: its port inside, its policy, what it has refused."""

from __future__ import annotations

PORT = 3128
# A variable of everything that runs behind the proxy: where it is. (The node may have a proxy of its own at that port.)
BEHIND = "CODESMITH_PROXY"
# Folders by workspace: policy.json, which root writes and the proxy reads.
POLICIES = "/run/codesmith/egress"
# Folders by workspace of the proxies that run, their own. What a proxy has refused is there; when it has ended, beside
# its policy.
LIVE = "/run/codesmith-egress"
DENIED = "denied.json"
DENIED_BYTES_MAX = 64 << 10
