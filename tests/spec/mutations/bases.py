"""The right specs that mistakes are made in: those that are shipped, and one of every field."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.spec.mutations.document import Document

ROOT = Path(__file__).parents[3]
MAIN = "experiments/mine/experiment.yaml"


@dataclass(frozen=True)
class Base:
    """A right spec: the experiment and the files it extends."""

    name: str
    files: Mapping[str, str]

    @cached_property
    def documents(self) -> dict[str, Document]:
        """The files by name, the experiment first."""
        return {name: Document(text) for name, text in self.files.items()}

    @property
    def main(self) -> Document:
        return self.documents[MAIN]

    @cached_property
    def kinds(self) -> dict[str, str]:
        """The kind of every stage."""
        return {
            str(entry.path[1]): entry.word
            for document in self.documents.values()
            for entry in document.entries
            if len(entry.path) == 3 and entry.ends("kind")
        }


def shipped() -> tuple[Base, ...]:
    """The specs that come with the project."""
    gutenberg = _read("experiments/pythia-160m-gutenberg/experiment.yaml")
    configs = {f"configs/{p.name}": _read(f"configs/{p.name}") for p in _configs()}
    on_cpu = gutenberg.replace("configs/gpu.yaml ", "configs/cpu.yaml ")
    assert on_cpu != gutenberg
    return (
        Base("quickstart", {MAIN: _read("experiments/quickstart/experiment.yaml")}),
        Base("gutenberg", {MAIN: gutenberg, **_without(configs, "cpu")}),
        Base("gutenberg on a CPU", {MAIN: on_cpu, **_without(configs, "gpu")}),
        Base("README", {MAIN: _example_of_the_readme()}),
    )


def every_field() -> Base:
    """A spec that uses what the shipped ones do not."""
    return Base("every field", {MAIN: _read("tests/spec/mutations/every_field.yaml")})


def _configs() -> list[Path]:
    return sorted((ROOT / "configs").glob("*.yaml"))


def _without(configs: Mapping[str, str], name: str) -> dict[str, str]:
    return {path: text for path, text in configs.items() if path != f"configs/{name}.yaml"}


def _read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def _example_of_the_readme() -> str:
    found = re.search(r"```yaml\n(.*?)```", _read("README.md"), re.DOTALL)
    assert found
    return found[1]
