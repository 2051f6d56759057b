"""A spec, right or wrong, as the `dvc.yaml` and `params.yaml` that a user of DVC would write.

A stage's kind is its command; what it refers to are its dependencies, by the folders that the other
stages write; every other field is a parameter, and is named in `params` so that DVC misses it when
it is gone. That list is the right spec's: it is what the program that a stage runs would look up.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.spec.mutations.bases import MAIN, Base

DVC_YAML = MAIN
"""Under the name of the experiment, so that the makers of mistakes take it for one."""
PARAMS_YAML = "params.yaml"
REFERENCES = ("corpus", "tokenizer", "from", "data")
Path = tuple[str, ...]
Tree = Mapping[str, Any]


@dataclass
class Translation:
    """DVC's files, and in which line of them each path of the spec ended up."""

    files: dict[str, str]
    lines: dict[Path, tuple[str, int]] = field(default_factory=dict)


def tree_of(files: Mapping[str, bytes]) -> dict[str, Any] | None:
    """The document in a spec's files with its bases merged, all values texts; None if it is none.

    PyYAML's own loader reads it, so nothing here depends on the code under test.
    """
    try:
        return _merged(files, MAIN)
    except (
        yaml.YAMLError,
        UnicodeDecodeError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ):
        return None


def translate(tree: Tree, right: Tree) -> Translation:
    """The files for a spec, `right` being the spec without its mistake."""
    stages = tree.get("stages", {})
    translation = Translation({})
    pipeline: list[str] = ["stages:"]
    for name, stage in stages.items():
        pipeline += _stage(name, stage, right, translation, start=len(pipeline))
    parameters: list[str] = []
    for name, stage in stages.items():
        if not isinstance(stage, dict):
            continue
        translation.lines.setdefault(("params", name), (PARAMS_YAML, len(parameters) + 1))
        parameters.append(f"{name}:")
        own = {key: value for key, value in stage.items() if _is_parameter(key)}
        for path, line in _block(own, (name,), 2):
            parameters.append(line)
            translation.lines.setdefault(("stages", *path), (PARAMS_YAML, len(parameters)))
    translation.files = {
        DVC_YAML: "\n".join(pipeline) + "\n",
        PARAMS_YAML: "\n".join(parameters) + "\n",
    }
    return translation


def translated_base(base: Base) -> Base:
    """A right spec as DVC's files, to make mistakes of YAML itself in."""
    tree = tree_of({name: text.encode() for name, text in base.files.items()})
    assert tree is not None
    return Base(base.name, translate(tree, tree).files)


def paths_of(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every path of a document with its value, outer before inner."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield (*path, str(key)), value
            yield from paths_of(value, (*path, str(key)))


def _merged(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    tree = yaml.load(files[name].decode("utf-8"), Loader=yaml.BaseLoader)
    extends = tree.pop("extends", [])
    for base in [extends] if isinstance(extends, str) else extends:
        tree = _merge(_merged(files, _resolved(name, base)), tree)
    return dict(tree)


def _resolved(name: str, base: str) -> str:
    parts = name.split("/")[:-1]
    for part in base.split("/"):
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/".join(parts)


def _merge(base: Any, over: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return {**base, **{k: _merge(base[k], v) if k in base else v for k, v in over.items()}}


def _is_parameter(key: str) -> bool:
    return key not in ("kind", "description", *REFERENCES)


def _stage(
    name: str, stage: Any, right: Tree, translation: Translation, *, start: int
) -> list[str]:
    """The lines of a stage in dvc.yaml, noted in the translation."""
    path = ("stages", name)
    translation.lines[path] = (DVC_YAML, start + 1)
    if not isinstance(stage, dict):
        return [f"  {name}: {stage}"]
    whole = right.get("stages", {}).get(name, {})
    lines = [f"  {name}:"]

    def write(line: str, *keys: Path) -> None:
        lines.append(line)
        for key in keys:
            translation.lines[(*path, *key)] = (DVC_YAML, start + len(lines))

    kind_key = _written_as("kind", stage, whole)
    if kind_key is not None:
        cmd = "cmd" if kind_key == "kind" else _misspelt("cmd")
        write(f"    {cmd}: python -m run_stage {stage[kind_key]}", (kind_key,))
    keys = {key: _written_as(key, stage, whole) for key in REFERENCES}
    found = [(key, written) for key, written in keys.items() if written is not None]
    if found:
        is_right = all(key == written for key, written in found)
        write(f"    {'deps' if is_right else _misspelt('deps')}:", *((w,) for _, w in found))
    for key, written in found:
        for ref in _refs(stage[written]):
            at = [(written, ref), *([(written,)] if key == written else [])]
            write(f"      - outputs/{ref}", *at)
    return [*lines, *_params(name, whole), "    outs:", f"      - outputs/{name}"]


def _written_as(key: str, stage: Tree, whole: Tree) -> str | None:
    """The key itself, or what stands in its place in a stage that lacks it; None if none does."""
    if key in stage:
        return key
    strangers = [other for other in stage if other not in whole and not _is_known(other)]
    return strangers[0] if key in whole and strangers else None


def _is_known(key: str) -> bool:
    return key in ("kind", *REFERENCES)


def _params(name: str, whole: Tree) -> list[str]:
    """What DVC is to look up for a stage: its fields in the right spec, each by its full name."""
    own = {key: value for key, value in whole.items() if _is_parameter(key)}
    leaves = [path for path, value in paths_of(own) if not isinstance(value, dict)]
    return (
        ["    params:", *(f"      - {name}.{'.'.join(path)}" for path in leaves)] if leaves else []
    )


def _refs(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [str(key) for key in value]
    return [value.partition("@")[0]] if isinstance(value, str) and value else []


def _misspelt(word: str) -> str:
    return word[1] + word[0] + word[2:]


def _block(tree: Tree, path: Path, indent: int) -> Iterator[tuple[Path, str]]:
    """The lines of a mapping in block style; lists and texts as they were written."""
    for key, value in tree.items():
        here = (*path, str(key))
        if isinstance(value, dict) and value:
            yield here, f"{' ' * indent}{key}:"
            yield from _block(value, here, indent + 2)
        else:
            dumped = yaml.safe_dump(value, default_flow_style=True, width=10**6)
            shown = value if isinstance(value, str) and value else dumped.strip()
            yield here, f"{' ' * indent}{key}: {shown}"
