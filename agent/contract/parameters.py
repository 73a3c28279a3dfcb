"""The check of a call's parameters against openrpc.json, before the method runs.

So a TypeError inside a method is a bug in the agent and never "invalid params".
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional

from agent.shared.errors import InvalidParams, printable


class ParameterCheck:
    """Checks the parameters of one method against their schemas, which are compiled at the first call."""

    def __init__(self, parameters: List[Dict[str, Any]], components: Optional[Dict[str, Any]] = None) -> None:
        # The records that a parameter may be.
        self._components = components or {}
        self._parameters = {parameter["name"]: parameter for parameter in parameters}
        self._compiled: Dict[str, Callable[[Any], Any]] = {}

    def __call__(self, params: Any) -> Dict[str, Any]:
        """Return the parameters as a new dict. InvalidParams lists every wrong field, 32 at most."""
        if params is None:
            params = {}
        if not isinstance(params, dict):
            raise InvalidParams.of("params", "must be an object: parameters go by name")
        known = self._parameters
        problems = [(name, f"is unknown (known: {', '.join(known) or 'none'})") for name in params if name not in known]
        problems += [(name, "is missing") for name, one in known.items() if one["required"] and name not in params]
        problems += [
            (name, problem) for name in params if name in known for problem in self._problems(name, params[name])
        ]
        if problems:
            shown = [(printable(name[:64]), problem) for name, problem in problems[:32]]
            text = "; ".join(f"{name} {problem}" for name, problem in shown[:3])
            errors = [{"field": name, "problem": problem} for name, problem in shown]
            raise InvalidParams(text, hint=self._hint(problems[0][0]), errors=errors)
        return dict(params)

    def _hint(self, name: str) -> str:
        good = self._parameters.get(name, {}).get("schema", {}).get("examples")
        return f"a good one: {good[0]}" if good else "rpc.discover has the schema of every parameter"

    def _problems(self, name: str, value: Any) -> List[str]:
        import fastjsonschema  # here, because the agent starts faster without it

        if name not in self._compiled:
            schema = self._parameters[name]["schema"]
            refers = "#/components/" in str(schema)
            whole = {**schema, "components": self._components} if refers else schema
            self._compiled[name] = fastjsonschema.compile(whole)
        try:
            self._compiled[name](value)
        except fastjsonschema.JsonSchemaValueException as error:
            where = "".join(f"[{part}]" for part in error.path[1:])
            # The library's message begins with its own name for the value.
            problem = error.definition.get("errorMessage") or str(error.message).replace(str(error.name), "", 1)
            return [f"{where} {problem.strip()}".strip()]
        return []
