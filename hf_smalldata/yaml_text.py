"""YAML as recipes are written in it: plain values only, no key twice, and no more values than a recipe could have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from hf_smalldata.errors import UserError

LARGEST_FILE_BYTES = 1_000_000
MOST_VALUES = 10_000  # aliases spelled out: nine lines of them can stand for a billion


class _Loader(yaml.SafeLoader):
    """Of plain values, that refuses a key which is there twice: one of the two would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for at, key in enumerate(keys) if key in keys[:at]), None)
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"'{twice[1]}' is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """What a text of YAML says.

    Raises:
        yaml.YAMLError: not YAML, a value that Python cannot hold, a key twice, or too many values.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _values(node, {}) > MOST_VALUES:
            raise yaml.YAMLError(f"more than {MOST_VALUES:,} values, when its aliases are spelled out")
        return loader.construct_document(node)
    except (ValueError, RecursionError) as error:  # of numbers and dates that are none, of what is nested too deep
        raise yaml.YAMLError(str(error)) from error
    finally:
        loader.dispose()


def read_yaml(file: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        UserError: missing, too large, not YAML, or not a mapping.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(f"{file}: no such recipe; `hf-smalldata list recipes` shows those that come with the package")
    if path.stat().st_size > LARGEST_FILE_BYTES:
        raise UserError(f"{file}: expected a recipe, got a file of {path.stat().st_size:,} bytes")
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected sections such as task, data and model, got {type(content).__name__}")
    return content


def _values(node: yaml.Node, known: dict[int, float]) -> float:
    """Values under a node, those of an alias as often as it is used; endless where a node holds itself."""
    if id(node) not in known:
        known[id(node)] = float("inf")
        pairs = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for pair in pairs for part in (pair if isinstance(pair, tuple) else (pair,))]
        known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]
