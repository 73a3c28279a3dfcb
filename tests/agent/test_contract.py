"""agent/openrpc.json is the contract: fresh, valid, and its examples are true to its schemas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from openrpc import OpenRPC

from agent import contract

TEXT = (Path(__file__).parents[2] / "agent" / "openrpc.json").read_text()
DOCUMENT = contract.build()
METHODS = {method["name"]: method for method in DOCUMENT["methods"]}
PROMISED = {
    "node.info", "node.health", "node.version", "user.create", "user.get", "user.list", "user.delete", "rpc.discover",
    "repo.init", "repo.clone", "repo.get", "repo.list", "repo.delete",
    "sandbox.create", "sandbox.get", "sandbox.list", "sandbox.delete",
    "audit.list", "user.disable", "user.enable", "user.set_keys",
    "workspace.assign", "workspace.create", "workspace.delete", "workspace.exec", "workspace.get", "workspace.list",
    "workspace.open", "workspace.update",
}  # fmt: skip


def test_committed_document_is_what_the_methods_say() -> None:
    assert contract.dumps(DOCUMENT) == TEXT, "stale: run `make api`"


def test_document_is_valid_openrpc() -> None:
    OpenRPC.model_validate(DOCUMENT)
    assert DOCUMENT["openrpc"] == "1.3.2"


def test_every_promised_method_is_there() -> None:
    assert set(METHODS) >= PROMISED


@pytest.mark.parametrize("name", sorted(METHODS))
def test_method_explains_itself(name: str) -> None:
    method = METHODS[name]
    assert method["summary"].endswith(".")
    assert method["paramStructure"] == "by-name"
    assert method["examples"]
    if method["x-mutates"]:
        assert "request_id" in {parameter["name"] for parameter in method["params"]}


@pytest.mark.parametrize("name", sorted(METHODS))
def test_examples_obey_the_schemas(name: str) -> None:
    method = METHODS[name]
    schemas = {parameter["name"]: parameter["schema"] for parameter in method["params"]}
    for example in method["examples"]:
        for parameter in example["params"]:
            validate(parameter["value"], schemas[parameter["name"]])
        validate(example["result"]["value"], method["result"]["schema"])


EXEMPLARY = {-32602, 1001, 1002, 1005, 1009}


@pytest.mark.parametrize("name", sorted(METHODS))
def test_errors_have_examples(name: str) -> None:
    method = METHODS[name]
    declared = {error["code"]: error["message"].split(":")[0] for error in method["errors"]}
    shown = {example["error"]["code"] for example in method["x-error-examples"]}
    assert declared.keys() & EXEMPLARY <= shown <= declared.keys()
    assert bool(shown) == bool(declared)
    known = {parameter["name"] for parameter in method["params"]}
    for example in method["x-error-examples"]:
        error = example["error"]
        assert error["data"]["kind"] == declared[error["code"]]
        if error["code"] != -32602:
            assert {parameter["name"] for parameter in example["params"]} <= known
    calls = [*method["x-example-given"], *(one for example in method["x-error-examples"] for one in example["given"])]
    for call in calls:
        assert set(call) == {"node"} or set(call["params"]) <= parameters_of(call["method"])


def parameters_of(name: str) -> set[str]:
    return {parameter["name"] for parameter in METHODS[name]["params"]}


def validate(value: Any, schema: dict[str, Any]) -> None:
    whole = {**schema, "components": DOCUMENT["components"]}
    jsonschema.Draft7Validator.check_schema(whole)
    jsonschema.validate(value, whole, cls=jsonschema.Draft7Validator)
