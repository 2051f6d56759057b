"""What sources were is pinned: a fresh clone makes the same bytes though the world has moved on."""

import json
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.commands import Cli, only
from tests.planning.carrying_out import actions_of, artifacts_of, document_of, plan_of, run
from tests.planning.conftest import write_spec
from tests.planning.worlds import text_of
from tests.servers.hub import COMMIT, HubServer
from tests.servers.texts import TextServer, serve_texts

REPO = "toys/tiny"
NEXT = "f" * 40


@pytest.fixture
def texts() -> Iterator[TextServer]:
    with serve_texts({"/a.txt": text_of("a", 0)}) as server:
        yield server


def stages_of(texts: TextServer, **source: Any) -> dict[str, Any]:
    return {
        "tokenizer": {"kind": "download", "repo": REPO, "files": "tokenizer"},
        "web": {"kind": "fetch", "sources": [{"url": f"{texts.url}/a.txt", **source}]},
    }


@pytest.fixture
def finished(texts: TextServer, hub: HubServer, tokenizer_dir: Path, tmp_path: Path) -> Path:
    """An experiment that downloaded a branch and a text, both of which can change."""
    shutil.copytree(tokenizer_dir, hub.root / REPO)
    folder = tmp_path / "finished"
    folder.mkdir()
    write_spec(folder, stages_of(texts))
    run(folder)
    return folder


@pytest.fixture
def clone(finished: Path, tmp_path: Path) -> Path:
    """What Git keeps of it."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("experiment.yaml", "continuum.lock"):
        shutil.copy(finished / name, folder)
    return folder


def locked(folder: Path, stage: str) -> dict[str, Any]:
    document = yaml.safe_load((folder / "continuum.lock").read_text(encoding="utf-8"))
    entry: dict[str, Any] = document["stages"][stage]
    return entry


def test_the_lock_says_what_the_sources_were(finished: Path, texts: TextServer) -> None:
    assert locked(finished, "tokenizer")["pins"] == {f"{REPO}@main": COMMIT}
    corpus: Any = plan_of(finished).stages["web"].run.artifact()
    assert locked(finished, "web")["pins"] == {f"{texts.url}/a.txt": corpus.items[0].sha256}


def test_a_fresh_clone_takes_the_pinned_commit(finished: Path, clone: Path, hub: HubServer) -> None:
    hub.commits = {"main": NEXT, "then": COMMIT}
    hub.requests.clear()
    plan = run(clone).plan
    assert hub.paths()[0] == f"/api/models/{REPO}/revision/{COMMIT}"
    tokenizer: Any = plan.stages["tokenizer"].run.artifact()
    assert tokenizer.commit == COMMIT
    assert artifacts_of(plan) == artifacts_of(plan_of(finished))
    assert (clone / "continuum.lock").read_bytes() == (finished / "continuum.lock").read_bytes()


def test_without_the_lock_a_clone_takes_what_is_there_now(clone: Path, hub: HubServer) -> None:
    hub.commits = {"main": NEXT, "then": COMMIT}
    (clone / "continuum.lock").unlink()
    tokenizer: Any = run(clone).plan.stages["tokenizer"].run.artifact()
    assert tokenizer.commit == NEXT


def test_a_changed_text_is_refused_until_the_lock_is_upgraded(
    clone: Path, texts: TextServer, cli: Cli
) -> None:
    texts.files["/a.txt"] = text_of("a", 1)
    before = locked(clone, "web")
    told = cli("run", clone, expect=8).stderr
    assert "(from continuum.lock)" in told
    assert "to accept the new file, run `continuum lock --upgrade`" in told
    assert locked(clone, "web") == before, "an entry of what did not finish is kept"
    cli("lock", clone, "--upgrade")
    cli("run", clone)
    assert locked(clone, "web")["pins"] != before["pins"]
    assert locked(clone, "web")["artifact"] != before["artifact"]


def test_what_an_upgrade_pins_is_made_again_and_nothing_else(
    finished: Path, texts: TextServer, cli: Cli
) -> None:
    texts.files["/a.txt"] = text_of("a", 1)
    assert actions_of(finished) == {"tokenizer": "reuse", "web": "reuse"}
    cli("lock", finished, "--upgrade")
    assert actions_of(finished) == {"tokenizer": "reuse", "web": "run"}
    cli("lock", finished)
    assert actions_of(finished)["web"] == "run", "writing the lock anew took the upgrade back"
    run(finished)
    assert not document_of(finished)["has_work"]
    assert only(finished, "runs/web-*/output/*").read_bytes() == text_of("a", 1)


def test_a_kept_plan_is_not_carried_out_with_other_pins(
    finished: Path, texts: TextServer, cli: Cli, tmp_path: Path
) -> None:
    path = tmp_path / "plan.json"
    cli("plan", finished, "--out", path)
    texts.files["/a.txt"] = text_of("a", 1)
    cli("lock", finished, "--upgrade")
    told = cli("run", "--in-process", finished, "--plan", path, expect=6).stderr
    assert "web: action changed: reuse -> run" in told
    assert f"web: pins changed: {{'{texts.url}/a.txt': " in told


def test_bytes_the_spec_states_are_not_pinned(finished: Path, texts: TextServer) -> None:
    """A pin beside `sha256` would contradict it as soon as it is corrected."""
    for version in (1, 2):
        text = text_of("a", version)
        texts.files["/a.txt"] = text
        write_spec(finished, stages_of(texts, sha256=sha256(text).hexdigest()))
        run(finished)
        assert "pins" not in locked(finished, "web")
        assert not document_of(finished)["has_work"]


def test_a_pin_is_of_its_source_alone(finished: Path, texts: TextServer, hub: HubServer) -> None:
    hub.commits["v2"] = NEXT
    texts.files["/b.txt"] = text_of("b", 0)
    stages = stages_of(texts)
    stages["tokenizer"]["revision"] = "v2"
    stages["web"]["sources"].append({"url": f"{texts.url}/b.txt"})
    write_spec(finished, stages)
    run(finished)
    assert locked(finished, "tokenizer")["pins"] == {f"{REPO}@v2": NEXT}
    assert set(locked(finished, "web")["pins"]) == {f"{texts.url}/{x}.txt" for x in "ab"}


def test_the_record_says_what_was_pinned(clone: Path, finished: Path) -> None:
    plan = run(clone).plan
    record = json.loads((plan.stages["web"].run.path / "stage.json").read_text())
    assert record["pins"] == locked(finished, "web")["pins"]
    first = plan_of(finished).stages["web"].run.record()
    assert first.pins == {}, "the first run had no lock"
