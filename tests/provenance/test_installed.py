"""Where continuum was installed from, and the version that `--version` prints."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from continuum import __version__
from continuum.runs import installed
from continuum.runs.installed import (
    OWN_DISTRIBUTION,
    code_origins,
    installed_version,
    own_origin,
    own_version,
)
from tests.commands import Cli
from tests.provenance.test_git import Checkout

URL = "https://me:secret@example.org:8443/continuum.git?token=x#egg"


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    """A process asks once where a package comes from; here the answer changes."""
    installed._code_origin.cache_clear()
    yield
    installed._code_origin.cache_clear()


def pretend(site: Path, direct_url: str, name: str = OWN_DISTRIBUTION, version: str = "7") -> None:
    """Metadata of an installed distribution, with what pip knows of its origin."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (folder / "METADATA").write_text(text, encoding="utf-8")
    if direct_url:
        (folder / "direct_url.json").write_text(direct_url, encoding="utf-8")


@pytest.mark.parametrize(
    ("direct_url", "expected"),
    [
        ("", {"installed": "index"}),
        ({"url": "file:///src", "dir_info": {}}, {"installed": "folder"}),
        (
            {"url": URL, "vcs_info": {"vcs": "git", "commit_id": "ab" * 20}},
            {
                "installed": "vcs",
                "url": "https://example.org:8443/continuum.git",
                "commit": "ab" * 20,
            },
        ),
        (
            {"url": "file:///c.whl", "archive_info": {"hashes": {"sha256": "cd"}}},
            {"installed": "archive", "sha256": "cd"},
        ),
        ("{", {"installed": "unknown", "unknown": "direct_url.json is not valid JSON"}),
    ],
    ids=["index", "folder", "vcs", "archive", "damaged"],
)
def test_the_record_says_where_continuum_was_installed_from(
    direct_url: Any,
    expected: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend(tmp_path, direct_url if isinstance(direct_url, str) else json.dumps(direct_url))
    monkeypatch.syspath_prepend(tmp_path)
    found = own_origin()
    assert len(found.pop("source_sha256")) == 64
    assert found == expected
    commit = expected.get("commit")
    assert own_version() == __version__ + (f" (commit {commit[:10]})" if commit else "")
    assert code_origins()["continuum"].origin == "elsewhere", "its files are not there"


def test_the_version_of_a_checkout_has_its_commit_and_whether_it_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = Checkout(tmp_path / "a checkout")
    editable = {"url": checkout.root.as_uri(), "dir_info": {"editable": True}}
    pretend(tmp_path / "site", json.dumps(editable))
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert own_version() == f"{__version__} (commit {checkout.head[:10]})"
    checkout.base.write_text("seed: 4\n", encoding="utf-8")
    assert own_version() == f"{__version__} (commit {checkout.head[:10]}+dirty)"
    told = Cli({"PYTHONPATH": str(tmp_path / "site")})("--version").stdout
    assert told == f"continuum {own_version()}\n"


def test_what_a_build_leaves_in_a_checkout_is_no_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "continuum_lm.egg-info"
    left.mkdir()
    (left / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: continuum-lm\nVersion: 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert own_origin()["installed"] == "no"


def test_the_other_project_is_never_taken_for_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records keep the package's name; the distribution of that name is another project."""
    before = installed_version("continuum")
    pretend(tmp_path, "", name="continuum", version="1.2.7")
    monkeypatch.syspath_prepend(tmp_path)
    assert installed_version("continuum") == before
    pretend(tmp_path, "", version="8")
    assert installed_version("continuum") == "8"
