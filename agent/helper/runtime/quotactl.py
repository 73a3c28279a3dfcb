"""`agent.pyz quota`: set how much disk a project may use. It runs in a unit of its own, which has CAP_SYS_ADMIN."""

from __future__ import annotations

import ctypes
import json
import os
from typing import List

PROJECTS = 2
GET, SET = 0x800007, 0x800008
# Limits of blocks and of inodes; limits count blocks of 1 KiB.
BOTH_LIMITS, BLOCK_BYTES = 1 | 4, 1024
# A file with anything in it takes a block of 4 KiB. So this stops only whoever makes empty ones, until all are taken.
BYTES_A_FILE = 4096


class Quota(ctypes.Structure):
    """struct if_dqblk of linux/quota.h."""

    _fields_ = (
        ("hard_blocks", ctypes.c_uint64),
        ("soft_blocks", ctypes.c_uint64),
        ("used_bytes", ctypes.c_uint64),
        ("hard_inodes", ctypes.c_uint64),
        ("soft_inodes", ctypes.c_uint64),
        ("used_inodes", ctypes.c_uint64),
        ("blocks_time", ctypes.c_uint64),
        ("inodes_time", ctypes.c_uint64),
        ("valid", ctypes.c_uint32),
    )


def main(arguments: List[str]) -> int:
    """Set the limit of a project and print what was there: DEVICE PROJECT BYTES FORCE; 0 bytes are no limit.

    A limit below what is used now is not set, without `force`.
    """
    device, project, limit_bytes, force = arguments[0], int(arguments[1]), int(arguments[2]), arguments[3] == "force"
    try:
        before = _call(GET, device, project, Quota())
        used = {"bytes": before.used_bytes, "files": before.used_inodes}
        files = limit_bytes // BYTES_A_FILE
        if force or (used["bytes"] <= limit_bytes and used["files"] <= files):
            blocks = limit_bytes // BLOCK_BYTES
            _call(SET, device, project, Quota(hard_blocks=blocks, hard_inodes=files, valid=BOTH_LIMITS))
        now = _call(GET, device, project, Quota())
    except OSError as error:
        print(json.dumps({"problem": error.strerror}))
        return 0
    limits = {"before_bytes": before.hard_blocks * BLOCK_BYTES, "limit_bytes": now.hard_blocks * BLOCK_BYTES}
    print(json.dumps({"used": used, **limits}))
    return 0


def _call(command: int, device: str, project: int, quota: Quota) -> Quota:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.quotactl(command << 8 | PROJECTS, os.fsencode(device), project, ctypes.byref(quota)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return quota
