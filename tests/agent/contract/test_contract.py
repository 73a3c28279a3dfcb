"""agent/openrpc.json is the contract: fresh, valid, and its examples are true to its schemas."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from openrpc import OpenRPC

from agent import methods
from agent.contract import document, examples

TEXT = (Path(__file__).parents[3] / "agent" / "openrpc.json").read_text()
DOCUMENT = document.build(methods.METHODS, examples.read())
METHODS = {method["name"]: method for method in DOCUMENT["methods"]}
PROMISED = {
    "node.info", "node.health", "node.version", "user.create", "user.get", "user.list", "user.delete", "rpc.discover",
    "repo.init", "repo.clone", "repo.get", "repo.list", "repo.delete",
    "sandbox.create", "sandbox.get", "sandbox.list", "sandbox.delete",
    "audit.list", "user.disable", "user.enable", "user.set_keys", "user.add_keys", "user.remove_keys",
    "workspace.assign", "workspace.create", "workspace.delete", "workspace.dial", "workspace.exec",
    "workspace.get", "workspace.list", "workspace.open", "workspace.share", "workspace.start", "workspace.stop",
    "workspace.unshare", "workspace.update",
    "workspace.usage",
}  # fmt: skip


def test_committed_document_is_what_the_methods_say() -> None:
    assert document.dumps(DOCUMENT) == TEXT, "stale: run `make api`"


def test_document_is_valid_openrpc() -> None:
    OpenRPC.model_validate(DOCUMENT)
    assert DOCUMENT["openrpc"] == "1.3.2"


def test_every_schema_has_a_title_and_a_title_means_one_thing() -> None:
    """Generators make the names of types of them."""
    seen: dict[str, set[str]] = {}

    def look(schema: dict[str, Any]) -> None:
        if "$ref" in schema:
            return
        assert re.fullmatch("[A-Z][A-Za-z0-9]*", schema.get("title", "")), schema
        seen.setdefault(schema["title"], set()).add(repr((schema.get("type"), sorted(schema.get("properties", {})))))
        inner = [schema.get("items"), schema.get("additionalProperties"), schema.get("propertyNames")]
        for one in [*schema.get("properties", {}).values(), *schema.get("oneOf", []), *inner]:
            if isinstance(one, dict):
                look(one)

    for record in DOCUMENT["components"]["schemas"].values():
        look(record)
    for method in METHODS.values():
        look(method["result"]["schema"])
        for parameter in method["params"]:
            look(parameter["schema"])
    assert {title: types for title, types in seen.items() if len(types) > 1} == {}


def test_every_promised_method_is_there() -> None:
    assert set(METHODS) >= PROMISED


# What foreign clients are written against: each method's parameters, "?" for optional ones.
PARAMETERS = """
rpc.discover:  node.info:  node.health:  node.version:  user.create: name ssh_keys? request_id?  user.get: name
user.list: labels?  user.set_keys: name ssh_keys request_id?  user.add_keys: name ssh_keys request_id?
user.remove_keys: name fingerprints request_id?  user.disable: name request_id?  user.enable: name request_id?
user.delete: name request_id?  workspace.create: name user? ssh_keys? labels? repo? request_id?  workspace.get: name
workspace.list: user? labels?  workspace.open: name request_id?  workspace.update: name labels? request_id?
workspace.assign: name user request_id?  workspace.share: name user request_id?
workspace.unshare: name user request_id?  workspace.delete: name keep_user? request_id?
workspace.start: name request_id?  workspace.stop: name request_id?  workspace.usage: name
workspace.dial: name public_key  workspace.exec: name argv cwd? env? stdin? encoding? timeout_s? request_id?
sandbox.create: workspace limits? network? request_id?  sandbox.get: workspace  sandbox.list:  sandbox.delete: workspace request_id?
repo.init: workspace name? default_branch? request_id?
repo.clone: workspace url name? ref? depth? credential? request_id?  repo.get: workspace name  repo.list: workspace
repo.delete: workspace name request_id?  audit.list: limit? before? workspace? user?
job.start: workspace argv cwd? env? stdin? tty? name? timeout_s? ends_with_stream? request_id?  job.get: workspace id
job.list: workspace state?  job.logs: workspace id stream? offset? limit?  job.attach: workspace id offset?
job.wait: workspace id timeout_s?  job.stop: workspace id signal? grace_s? request_id?  job.delete: workspace id request_id?
file.list: workspace path?  file.stat: workspace path  file.read: workspace path offset? limit? encoding?
file.write: workspace path data encoding? mode? append? if_etag? request_id?
file.edit: workspace path old new if_etag? request_id?  file.search: workspace pattern path? limit?
file.move: workspace path new_path replace? if_etag? request_id?  file.remove: workspace path recursive? request_id?
file.make_directory: workspace path parents? mode? request_id?
repo.pull: workspace name ref? credential? known_hosts? timeout_s? request_id?
repo.push: workspace name ref? credential? known_hosts? timeout_s? request_id?
repo.fetch: workspace name ref? credential? known_hosts? timeout_s? request_id?
sandbox.update: workspace limits? network? allow? deny? drop? restart? force? request_id?
user.add_keys: name ssh_keys request_id?  user.remove_keys: name fingerprints request_id?
token.create: workspace token_sha256 methods? preset? expires_at? label? request_id?
token.list: workspace?  token.revoke: id request_id?
"""  # noqa: E501
# Its types and results: the fields of each.
FIELDS = """
NodeInfo: node_id instance_id hostname os kernel arch python cpus memory_bytes memory_available_bytes disk agent_version api_version started_at now counts
Os: id version_id name  Disk: total_bytes free_bytes  Counts: users workspaces sandboxes  NodeHealth: status checks
HealthCheck: name status detail  NodeVersion: agent api python build  SshKey: type fingerprint comment
User: name login uid gid home shell state ssh_keys workspaces created_at  UserDeleted: name deleted leftovers
UserDetails: name login uid gid home shell state ssh_keys workspaces created_at drift
Workspace: id name path home user shared_with login uid gid mode state labels repos sandbox runtime created_at opened_at
OpenedWorkspace: id name path home user shared_with login uid gid mode state labels repos sandbox runtime created_at opened_at
Dialled: token expires_at user host_keys
WorkspaceLogin: user host_hint directory environment  WorkspaceDeleted: name deleted user_deleted
Execution: exit_code signal stdout stdout_encoding stderr stderr_encoding truncated omitted_bytes duration_s killed_by
Runtime: state since idle_stop_at
Usage: memory_bytes memory_peak_bytes memory_limit_bytes cpu_s tasks disk_bytes files network
UsedNetwork: allowed denied  DeniedHost: host port count last_at
Sandbox: workspace limits network enforced state denied created_at  SandboxDeleted: workspace deleted
Repo: name path url branch commit left_out ahead behind updated new_commits  RepoDeleted: name deleted
AuditRecord: time request_id peer_uid method target outcome duration_s owner exit_code signal killed_by token
TokenMark: id label  Token: id label workspace preset methods created_at expires_at last_used_at by
CreatedToken: id scope  TokenScope: workspace preset methods expires_at  TokenRevoked: id revoked
Job: id workspace name argv state exit_code signal killed_by started_at ended_at stdout_bytes stderr_bytes by
StartedJob: id workspace name argv state exit_code signal killed_by started_at ended_at stdout_bytes stderr_bytes by stream
StreamToken: token expires_at  JobLogs: data encoding offset next_offset eof  JobDeleted: id deleted
File: path type size_bytes mode modified_at target etag  FileContents: data encoding size_bytes next_offset eof
FileRemoved: path removed  FileMatch: path line text  Tty: rows cols term
"""  # noqa: E501


def words_of(table: str) -> dict[str, list[str]]:
    return {name: words.split() for name, words in re.findall(r"([A-Za-z_.]+):((?: [a-z_0-9]+[?]?)*)(?=\s|$)", table)}


def test_parameters_are_those_that_were_promised() -> None:
    for name, promised in words_of(PARAMETERS).items():
        there = {one["name"]: one["required"] for one in METHODS[name]["params"]}
        assert {word.rstrip("?"): not word.endswith("?") for word in promised}.items() <= there.items(), name
        assert not any(there[extra] for extra in there.keys() - {word.rstrip("?") for word in promised}), name
    assert words_of(PARAMETERS).keys() == METHODS.keys()


def test_records_have_the_fields_that_were_promised() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for name, promised in words_of(FIELDS).items():
        assert set(promised) <= set(schemas[name]["properties"]) == set(schemas[name]["required"]), name
    assert words_of(FIELDS).keys() == schemas.keys()


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


def schemas(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every JSON Schema inside a value, at any depth."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from schemas(inner)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_what_a_parameter_must_be_is_said_in_words(name: str) -> None:
    for parameter in METHODS[name]["params"]:
        names = [inner.get("propertyNames") for inner in schemas(parameter["schema"])]
        for schema in schemas(parameter["schema"]):
            if {"pattern", "propertyNames", "format"} & set(schema) and schema not in names:
                assert schema["errorMessage"].startswith("must be "), schema
