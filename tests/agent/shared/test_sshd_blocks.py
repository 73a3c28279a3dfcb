"""Which Match blocks of sshd_config win over a file's settings for some connections only."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.shared import sshd_blocks

OURS = "40-codesmith.conf"
LATER = "Match LocalPort 2223\n ForceCommand none\n"
CASES = {
    "a port, before": ({"10.conf": "Match LocalPort 2222\n ForceCommand none\n"}, f"Include *.conf\n{LATER}",
                       ["Match all\nForceCommand none\n"]),
    "after ours": ({"50.conf": LATER}, f"Include *.conf\n{LATER}", []),
    "before the Include": ({}, f"{LATER}Match all\nInclude *.conf\n", ["Match all\nForceCommand none\n"]),
    "whose it is stays": ({}, "match Address=10.0.0.0/8 user \"a b\"\n Banner x\nMatch all\nInclude *.conf\n",
                          ['Match user "a b"\nBanner x\n']),
    "for logins alone": ({"10.conf": "Match User cs-*\n ForceCommand none\nMatch Group x\n"}, "Include *.conf\n", []),
    "a file within a block": ({"10.inc": "ForceCommand none\n"},
                              "Match Host x\n Include *.inc\nMatch all\nInclude *.conf\n",
                              ["Match all\nInclude *.inc\n"]),
    "of a file that a file reads": ({"10.conf": "Include a.inc\n", "a.inc": LATER}, "Include *.conf\n",
                                    ["Match all\nForceCommand none\n"]),
    "a comment": ({"10.conf": f"#{LATER}"}, "\n# Match Host x\nInclude *.conf\n", []),
    "ours within it": ({}, "Match Host x\n Banner x\n Include *.conf\n", ["Match all\nBanner x\n"]),
    "a file that reads itself": ({"10.conf": f"Include *.conf\n{LATER}"}, "Include 10.conf\n", []),
}  # fmt: skip


def test_patterns_that_tell_logins_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "main": "Include 10.conf\nAllowUsers root@10.0.0.0/8 cs-*\n"
        "Match LocalPort 22 User !cs-c*,cs-b\n Include 20.conf\n",
        "10.conf": "DenyGroups staff\nMatch Group=cs-d Address 10.0.0.0/8\n PermitTTY no\n",
        "20.conf": 'match user "cs-e"\nInclude main\nMatch all\n',
    }
    monkeypatch.setattr(sshd_blocks, "FOLDER", str(tmp_path))
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    found = sshd_blocks.patterns(f"{tmp_path}/main")
    assert set(found) == {"root", "cs-*", "cs-c*", "cs-b", "staff", "cs-d", "cs-e"}


@pytest.mark.parametrize("case", CASES)
def test_blocks_for_some_connections(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, main, expected = CASES[case]
    monkeypatch.setattr(sshd_blocks, "FOLDER", str(tmp_path))
    for name, text in {**files, "main": main, OURS: "Match all\n"}.items():
        (tmp_path / name).write_text(text)
    found = sshd_blocks.blocks_before(f"{tmp_path}/{OURS}", f"{tmp_path}/main")
    assert [one.text for one in found] == expected
