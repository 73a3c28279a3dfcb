"""The generated client, against the agent's own front end."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import codesmith
from codesmith import paths
from codesmith.errors import AgentRefused, CodeSmithError, UnknownNode
from codesmith.nodes.registry import Registry
from codesmith.sdk import api, generate
from codesmith.tunnel.local_endpoint import endpoint_path
from tests.sdk.sdk_doubles import real_agent, result, scripted

TOP = Path(__file__).parents[2]
CONTRACT = json.loads((TOP / "agent" / "openrpc.json").read_text())
EXAMPLES = [(method["name"], example) for method in CONTRACT["methods"] for example in method["examples"]]


@pytest.fixture
def endpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("CODESMITH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CODESMITH_NODES", str(tmp_path / "nodes.yaml"))
    monkeypatch.delenv("CODESMITH_NODE", raising=False)
    (tmp_path / "nodes.yaml").write_text("nodes: {web1: {host: web1.invalid}}\n")
    yield endpoint_path(Registry.load().one())
    shutil.rmtree(paths.runtime_dir())


def test_the_client_speaks_with_the_agent(endpoint, tmp_path):
    with real_agent(endpoint, tmp_path), codesmith.connect("web1") as web1:
        assert web1.node.version().api == CONTRACT["info"]["version"]
        assert web1.node.info().os.id
        assert {check.name for check in web1.node.health().checks} >= {"store", "helper"}
        assert web1.workspace.list(user="ada", labels={"a": "b"}) == []
        assert web1.discover() == CONTRACT


def test_the_agents_refusals_arrive_typed(endpoint, tmp_path):
    with real_agent(endpoint, tmp_path), codesmith.connect() as web1:
        with pytest.raises(AgentRefused) as caught:
            web1.user.get(name="nobody")
        assert (caught.value.rpc_kind, caught.value.hint, caught.value.code) == ("not_found", "inv user.list", 3)
        with pytest.raises(AgentRefused, match="name") as caught:
            web1.workspace.create(name="../x")
        assert caught.value.rpc_code == -32602


@pytest.mark.parametrize("name, example", EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_every_example_of_the_contract_fits_the_client(endpoint, name, example):
    params = {param["name"]: param["value"] for param in example["params"]}
    value = example["result"]["value"]
    with scripted(endpoint, result(value)) as server, codesmith.connect() as web1:
        prefix, _, verb = name.partition(".")
        found = web1.discover() if prefix == "rpc" else getattr(getattr(web1, prefix), verb)(**params)
        sent = {key: item for key, item in server.requests[0]["params"].items() if item is not False}
    sent.pop("request_id", None)
    assert sent == params
    shown = (
        [item.to_dict() for item in found] if isinstance(found, list) else getattr(found, "to_dict", lambda: found)()
    )
    assert shown == value


def test_records_in_records_are_records_too():
    given = {method: example["result"]["value"] for method, example in EXAMPLES}
    boxed = api.Workspace.from_dict({**given["workspace.get"], "sandbox": given["sandbox.get"]})
    assert boxed.sandbox == api.Sandbox.from_dict(given["sandbox.get"])
    assert boxed.sandbox.limits == given["sandbox.get"]["limits"]
    assert boxed.to_dict()["sandbox"] == given["sandbox.get"]
    assert api.Workspace.from_dict(given["workspace.get"]).sandbox is None
    opened = api.OpenedWorkspace.from_dict({**given["workspace.open"], "sandbox": given["sandbox.get"]})
    assert (opened.sandbox.network, opened.login.user) == (given["sandbox.get"]["network"], "cs-demo")


def test_an_unknown_node_is_told_before_anything_is_opened(endpoint):
    with pytest.raises(UnknownNode):
        codesmith.connect("web2")


def test_a_record_ignores_what_a_newer_agent_adds():
    data = {"total_bytes": 2, "free_bytes": 1, "from_the_future": 3}
    disk = api.Disk.from_dict(data)
    assert disk == api.Disk(total_bytes=2, free_bytes=1)
    assert disk.to_dict() == {"total_bytes": 2, "free_bytes": 1}
    assert repr(disk) == "Disk(total_bytes=2, free_bytes=1)"
    assert disk != api.Disk(total_bytes=2, free_bytes=2)
    assert disk != data


def results_that_are_records():
    for method in CONTRACT["methods"]:
        schema = method["result"]["schema"]
        if "$ref" in schema and not method["name"].startswith("rpc."):
            record = schema["$ref"].rpartition("/")[2]
            yield pytest.param(record, method["examples"][0]["result"]["value"], id=method["name"])


@pytest.mark.parametrize(("record", "value"), list(results_that_are_records()))
def test_what_an_older_agent_lacks_is_none_if_it_may_be_else_an_error(record, value):
    schema = CONTRACT["components"]["schemas"][record]
    for field in schema["required"]:
        lacking = {name: inner for name, inner in value.items() if name != field}
        kinds = [one.get("type") for one in schema["properties"][field].get("oneOf", ())]
        if "null" in kinds:
            assert getattr(getattr(api, record).from_dict(lacking), field) is None
        else:
            with pytest.raises(KeyError, match=field):
                getattr(api, record).from_dict(lacking)


def test_an_older_agent_is_told_by_the_field_that_its_answer_lacks(endpoint):
    (info,) = [example["result"]["value"] for name, example in EXAMPLES if name == "node.info"]
    for lacking, field in (
        ({**info, "disk": {"total_bytes": 2}}, "free_bytes"),
        ({name: value for name, value in info.items() if name != "memory_available_bytes"}, "memory_available_bytes"),
    ):
        with scripted(endpoint, result(lacking)), codesmith.connect() as web1, pytest.raises(CodeSmithError) as caught:
            web1.node.info()
        problem = f"web1 answered node.info without '{field}': its agent is older than this client"
        assert (caught.value.problem, caught.value.hint) == (problem, "inv node.prepare --node web1")


def test_api_py_is_what_the_contract_says():
    done = subprocess.run(
        [sys.executable, "-m", "codesmith.sdk.generate", "--check"], cwd=TOP, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_generator_notices_a_change_of_the_contract(tmp_path, monkeypatch, capsys):
    changed = copy.deepcopy(CONTRACT)
    changed["components"]["schemas"]["User"]["properties"]["nickname"] = {"type": "string"}
    (tmp_path / "openrpc.json").write_text(json.dumps(changed))
    monkeypatch.setattr(generate, "CONTRACT", tmp_path / "openrpc.json")
    monkeypatch.setattr(sys, "argv", ["generate", "--check"])
    with pytest.raises(SystemExit):
        generate.main()
    assert capsys.readouterr().err.endswith("hint: make api\n")
    assert "nickname: str | None" in generate.module(changed)


def test_a_schema_the_generator_does_not_know_is_refused_by_name():
    with pytest.raises(generate.BadContract, match="no Python type"):
        generate.python_type({"type": "tuple"})
