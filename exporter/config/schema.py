"""What may stand in a config file? A JSON Schema (2020-12) for editors, from the same models that validate it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exporter.config import Settings
from exporter.config.entries import Probes
from probes.api import Probe

DIALECT = "https://json-schema.org/draft/2020-12/schema"
REFERENCE = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*\}"}

Schema = dict[str, Any]


def schema(registry: Probes) -> Schema:
    """The schema of a config, an included file or an overlay (so nothing is required but a check's probe or name)."""
    root = _with_references(Settings.model_json_schema(ref_template="#/$defs/{model}"))
    entry = root["$defs"]["CheckEntry"]
    del entry["required"]
    entry["anyOf"] = [{"required": ["probe"]}, {"required": ["name"]}]
    entry["properties"]["probe"]["enum"] = sorted(registry)
    entry["allOf"] = [_branch(registry[name]) for name in sorted(registry)]
    for name in sorted(registry):
        root["$defs"] |= _params(registry[name])
    return {"$schema": DIALECT, **root, "title": "gpu-canary config"}


def _branch(probe: Probe[Any]) -> Schema:
    """What a check of this probe may say beyond the shape of every check."""
    metrics = {"properties": {"metric": {"enum": [m.name for m in probe.metrics]}}}
    allowed: Schema = {"params": {"$ref": f"#/$defs/params.{probe.name}"}, "targets": {"items": metrics}}
    if "interpreter" not in probe.params.model_fields:
        allowed["interpreter"] = False
    return {
        "if": {"properties": {"probe": {"const": probe.name}}, "required": ["probe"]},
        "then": {"properties": allowed, "description": probe.title},
    }


def _params(probe: Probe[Any]) -> Mapping[str, Schema]:
    """The definitions of one probe's params. Every text may be read from a file: `X_file`. None is required in YAML's
    `params`, because an overlay names only what it changes."""
    own = _with_references(probe.params.model_json_schema(ref_template=f"#/$defs/params.{probe.name}.{{model}}"))
    below = {f"params.{probe.name}.{name}": part for name, part in own.pop("$defs", {}).items()}
    own.pop("required", None)
    texts = [name for name, part in own.get("properties", {}).items() if _is_text(part)]
    for name in texts:
        described = f"A file that holds {name}; a relative path starts at the config."
        own["properties"].setdefault(f"{name}_file", {"type": "string", "description": described})
    return {f"params.{probe.name}": own, **below}


def _is_text(part: Schema) -> bool:
    return part.get("type") == "string" or any(_is_text(option) for option in part.get("anyOf", ()))


def _with_references(part: Any) -> Any:
    """The same schema in which `${NAME}` may stand for any value but a text, which takes it already."""
    if isinstance(part, list):
        return [_with_references(item) for item in part]
    if not isinstance(part, dict):
        return part
    part = {
        key: value if key in ("default", "enum", "const") else _with_references(value) for key, value in part.items()
    }
    kinds = part.get("type")
    plain = kinds == "string" and not {"pattern", "enum", "const"} & part.keys()
    if plain or kinds in (None, "object", "array", "null") or not isinstance(kinds, str | list):
        return part
    about = {key: part.pop(key) for key in ("title", "description", "default") if key in part}
    return {"anyOf": [part, REFERENCE], **about}
