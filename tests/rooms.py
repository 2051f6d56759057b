"""`python -m tests.rooms`: the rooms of the package, what each imports, and how deep they stand.

A room is a package below `continuum`; the loose modules at its root are one room, the ground. Every
import counts, those inside functions and for type checkers too.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median

PACKAGE = Path(__file__).parents[1] / "continuum"
GROUND = "ground"
ENTRANCES = ("__main__", "continuum_lm")
"""Start the command; imported by no room."""


def modules() -> Iterator[tuple[str, Path]]:
    """Each module's dotted name below the package, and its file."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name not in ("", *ENTRANCES):
            yield name, path


def room_of(module: str) -> str:
    """`cli` for `cli.run`; the ground for what is no package and in none."""
    first = module.partition(".")[0]
    return first if (PACKAGE / first).is_dir() else GROUND


def imports_of(path: Path) -> Iterator[str]:
    """The modules of this package that a file imports, by their dotted names below it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            named = [f"{node.module}.{name.name}" for name in node.names]
        else:
            named = []
        for name in named:
            package, _, module = name.partition(".")
            if package == PACKAGE.name and module and not module.startswith("__"):
                yield module


@cache
def room_imports() -> dict[str, frozenset[str]]:
    """The other rooms that each room imports."""
    found: dict[str, set[str]] = {}
    for name, path in modules():
        found.setdefault(room_of(name), set()).update(map(room_of, imports_of(path)))
    return {room: frozenset(imported - {room}) for room, imported in found.items()}


@cache
def depth_of(room: str) -> int:
    """The number of rooms on the longest way of imports down from this one.

    Raises:
        RecursionError: rooms import each other in a circle.
    """
    return 1 + max(map(depth_of, room_imports()[room]), default=0)


def loose_modules() -> list[str]:
    """The modules at the package's root."""
    return sorted(path.stem for path in PACKAGE.glob("*.py"))


def main() -> None:
    """Print the house, top floor first."""
    sizes: dict[str, list[int]] = {}
    for name, path in modules():
        num_lines = path.read_text(encoding="utf-8").count("\n")
        sizes.setdefault(room_of(name), []).append(num_lines)
    for room in sorted(room_imports(), key=lambda it: (-depth_of(it), it)):
        imported = ", ".join(sorted(room_imports()[room], key=lambda it: (-depth_of(it), it)))
        print(
            f"{depth_of(room):2}  {room:<11} {len(sizes[room]):3} files, median "
            f"{median(sizes[room]):4.0f} lines, {sum(sizes[room]):6,} in all   {imported}"
        )
    everything = [size for room in sizes.values() for size in room]
    print(
        f"{len(sizes)} rooms, {sum(map(len, room_imports().values()))} imports between them, "
        f"depth {max(map(depth_of, sizes))}; {len(everything)} files, median "
        f"{median(everything):.0f} lines, {sum(everything):,} in all"
    )


if __name__ == "__main__":
    main()
