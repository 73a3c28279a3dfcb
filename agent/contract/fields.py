"""The types of single fields and parameters of the contract: Python types with JSON Schema keywords beside them."""

from __future__ import annotations

from typing import Annotated, Any, Dict, List, Literal, Optional, TypedDict, Union

from agent.shared.names import NAME, NAME_HINT


class Keywords(Dict[str, Any]):
    """JSON Schema keywords for a type. Hashable, because `typing` hashes the arguments of Annotated."""

    __hash__ = object.__hash__  # type: ignore[assignment]


A_LINE = "one line without control characters, of"
# A character that does not end a line, does not control a terminal, and is not half of a surrogate pair.
ONE_LINE = "[^\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff]"
Name = Annotated[
    str,
    Keywords(
        {
            "title": "Name",
            "pattern": f"^{NAME}$",
            "maxLength": 28,
            "description": f"{NAME_HINT[0].upper()}{NAME_HINT[1:]}.",
            "examples": ["web-app"],
            # Shown to the caller instead of the pattern (the keyword of ajv-errors).
            "errorMessage": f"must be {NAME_HINT}",
        }
    ),
]
RequestId = Annotated[
    str,
    Keywords(
        {
            "title": "RequestId",
            "pattern": "^[A-Za-z0-9._:-]{1,64}$",
            "maxLength": 64,
            "errorMessage": "must be 1 to 64 of A-Z, a-z, 0-9 and . _ : -",
            "description": "Chosen by the caller; repeating a call with the same request_id returns the first result.",
        }
    ),
]
PublicKey = Annotated[
    str,
    Keywords(
        {
            "title": "PublicKey",
            "maxLength": 8192,
            "pattern": f"^{ONE_LINE}+$",
            "description": "An OpenSSH public key without options.",
            "errorMessage": f"must be {A_LINE} up to 8192",
        }
    ),
]
SshKeys = Annotated[
    List[
        Annotated[
            str,
            Keywords({"maxLength": 8192, "pattern": f"^{ONE_LINE}+$", "errorMessage": f"must be {A_LINE} up to 8192"}),
        ]
    ],
    Keywords(
        {"title": "SshKeys", "maxItems": 64, "description": "OpenSSH public keys, one per item, without options."}
    ),
]
Fingerprints = Annotated[
    List[
        Annotated[str, Keywords({"pattern": "^SHA256:[A-Za-z0-9+/]{43}$", "errorMessage": "must be like SHA256:..."})]
    ],
    Keywords({"minItems": 1, "maxItems": 64, "description": "Of keys, as user.get shows them."}),
]
Labels = Annotated[
    Dict[
        str,
        Annotated[
            str,
            Keywords({"maxLength": 256, "pattern": f"^{ONE_LINE}*$", "errorMessage": f"must be {A_LINE} up to 256"}),
        ],
    ],
    Keywords(
        {
            "title": "Labels",
            "maxProperties": 32,
            "propertyNames": {
                "type": "string",
                "pattern": "^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$",
                "maxLength": 63,
            },
            "description": "The caller's own labels, key to value.",
            "errorMessage": "must be at most 32 keys of 1 to 63 of A-Z, a-z, 0-9 and inner . _ / -, each with a value",
        }
    ),
]
Time = Annotated[str, Keywords({"title": "Time", "format": "date-time", "description": "RFC 3339, UTC."})]
Bytes = Annotated[int, Keywords({"minimum": 0})]
Count = Annotated[int, Keywords({"minimum": 0})]
Limits = Annotated[
    Dict[str, Any],
    Keywords(
        {
            "title": "Limits",
            "properties": {
                "memory_bytes": {"type": "integer", "minimum": 16 << 20},
                "cpus": {"type": "number", "exclusiveMinimum": 0, "maximum": 4096},
                "tasks": {"type": "integer", "minimum": 1, "maximum": 1 << 22},
                "runtime_s": {"type": "number", "exclusiveMinimum": 0, "maximum": 3600},
                "disk_bytes": {"type": "integer", "minimum": 1 << 20},
            },
            "additionalProperties": False,
            "description": "Of everything in the workspace together: memory, tasks at once, CPUs, disk; and the "
            "seconds of each command.",
        }
    ),
]
LimitChanges = Annotated[
    Dict[str, Any],
    Keywords(
        {
            "title": "LimitChanges",
            "properties": {
                "memory_bytes": {"type": ["integer", "null"], "minimum": 16 << 20},
                "cpus": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 4096},
                "tasks": {"type": ["integer", "null"], "minimum": 1, "maximum": 1 << 22},
                "runtime_s": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 3600},
                "disk_bytes": {"type": ["integer", "null"], "minimum": 1 << 20},
            },
            "additionalProperties": False,
            "description": "Limits to set; null removes one, and what is not named stays.",
        }
    ),
]
HOSTS_MAX = 256
Host = Annotated[
    str,
    Keywords(
        {
            "pattern": "^[^\\x00-\\x20\\x7f-\\x9f]+$",
            "maxLength": 300,
            "examples": ["pypi.org", "*.github.com:443"],
            "errorMessage": "must be a host, like pypi.org, *.github.com:443 or 10.1.2.3:5432",
        }
    ),
]
Hosts = Annotated[
    List[Host],
    Keywords(
        {
            "maxItems": HOSTS_MAX,
            "description": "Names or addresses, each with :PORT or for ports 80 and 443; *.NAME is all names below it.",
        }
    ),
]
Network = Annotated[
    Union[
        Literal["full", "none"],
        Annotated[
            Dict[str, Hosts],
            Keywords(
                {
                    "properties": {
                        "allow": {
                            "type": "array",
                            "items": {"type": "string", "maxLength": 300},
                            "maxItems": HOSTS_MAX,
                        },
                        "deny": {"type": "array", "items": {"type": "string", "maxLength": 300}, "maxItems": HOSTS_MAX},
                    },
                    "required": ["allow"],
                    "additionalProperties": False,
                }
            ),
        ],
    ],
    Keywords(
        {
            "description": "full; none: only the loopback interface; or the hosts that a proxy lets through, where "
            "deny wins. Default: full.",
            "errorMessage": 'must be full, none or {"allow": [HOST, ...], "deny": [HOST, ...]}',
        }
    ),
]
TokenId = Annotated[
    str, Keywords({"pattern": "^[0-9a-f]{12}$", "maxLength": 12, "errorMessage": "must be 12 hexadecimal digits"})
]
TokenLabel = Annotated[
    str, Keywords({"maxLength": 128, "pattern": f"^{ONE_LINE}*$", "errorMessage": f"must be {A_LINE} up to 128"})
]
Preset = Literal["read", "work"]
OutputEncoding = Annotated[
    Literal["text", "base64"],
    Keywords({"description": "base64 when the caller asked for it or the output is not UTF-8, otherwise text."}),
]
# No NUL, no half of a surrogate pair: neither can be passed to a program.
ARGUMENT = Keywords({"pattern": "^[^\\x00\\ud800-\\udfff]*$", "errorMessage": "must be text without NUL"})
Argv = Annotated[List[Annotated[str, ARGUMENT]], Keywords({"minItems": 1, "maxItems": 1024})]
WorkingDirectory = Annotated[
    Optional[str],
    Keywords(
        {
            "pattern": "^[^\\x00\\ud800-\\udfff]+$",
            "maxLength": 4096,
            "description": "The working directory: a path inside the workspace, relative to it.",
            "errorMessage": "must be a path inside the workspace, of up to 4096 characters without NUL",
        }
    ),
]
Environment = Annotated[
    Optional[Dict[str, Annotated[str, ARGUMENT]]],
    Keywords(
        {
            "maxProperties": 256,
            "propertyNames": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
            "errorMessage": "must be at most 256 variables, their names of A-Z, a-z, 0-9 and _",
        }
    ),
]
JobId = Annotated[
    str, Keywords({"pattern": "^[0-9a-f]{12}$", "maxLength": 12, "errorMessage": "must be 12 hexadecimal digits"})
]
JobState = Literal["waiting", "running", "exited", "killed", "lost"]
FilePath = Annotated[
    str,
    Keywords(
        {
            "pattern": "^[^\\x00]+$",
            "maxLength": 4096,
            "description": "A path in the workspace, relative to it; none leads out of it. A byte that is not UTF-8 is "
            "U+DC80 to U+DCFF. In answers it has no links.",
            "errorMessage": "must be a path of 1 to 4096 characters without NUL",
        }
    ),
]
FileData = Annotated[str, Keywords({"description": "Text, or base64: as `encoding` says."})]
Etag = Annotated[str, Keywords({"maxLength": 64, "description": "Changes whenever the file does."})]
Mode = Annotated[str, Keywords({"pattern": "^[0-7]{3,4}$", "errorMessage": "must be octal, like 0644"})]


class Tty(TypedDict):
    """A terminal: its size in characters, and its type for TERM."""

    rows: Annotated[int, Keywords({"minimum": 1, "maximum": 1000})]
    cols: Annotated[int, Keywords({"minimum": 1, "maximum": 1000})]
    term: Annotated[str, Keywords({"pattern": "^[A-Za-z0-9._+-]{1,64}$"})]
