"""Packages that offer kinds of stages, without an installer: a module and its metadata."""

import shutil
from pathlib import Path

GROUP = "continuum.stages"


def offer(folder: Path, module: Path, **kinds: str) -> dict[str, str]:
    """Put a module into a folder as an installed package; the variable by which Python finds it.

    Args:
        kinds: The names of its classes, by the kinds that they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(module, folder)
    metadata = folder / f"{module.stem}-1.0.dist-info"
    metadata.mkdir()
    head = f"Metadata-Version: 2.1\nName: {module.stem}\nVersion: 1.0\n"
    (metadata / "METADATA").write_text(head, encoding="utf-8")
    offered = (f"{kind} = {module.stem}:{cls}\n" for kind, cls in kinds.items())
    text = f"[{GROUP}]\n{''.join(offered)}"
    (metadata / "entry_points.txt").write_text(text, encoding="utf-8")
    return {"PYTHONPATH": str(folder)}
