"""`continuum report`: the page says what the records say, whatever state they are in."""

import json
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from continuum.reporting.curves import RECOVERED, SKIPPED, read_trainings
from tests.commands import Cli, only
from tests.experiments import FIRST_STAGES, small_flow
from tests.in_process import plan_folder
from tests.planning.carrying_out import CrashError, Events, Interruption, run
from tests.servers.texts import serve_texts

STAGES = ("prose", "tokenizer", "tokens", "pretrain", "longer", "weights", "code", "code_tokens")
MAX_BYTES = 1_000_000
SVG = "{http://www.w3.org/2000/svg}"


def rows(folder: Path, stage: str) -> list[dict[str, float]]:
    path = only(folder, f"runs/{stage}-*/metrics.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def report_of(folder: Path, *arguments: str) -> str:
    Cli()("report", folder, *arguments)
    return (folder / "results" / "report.html").read_text(encoding="utf-8")


def figures(page: str) -> list[ElementTree.Element]:
    """The figures as they are on a wide screen."""
    found = re.findall(r'<div class="wide">(<svg.*?</svg>)</div>', page, re.DOTALL)
    return [ElementTree.fromstring(text) for text in found]


def lines_of(page: str, name: str) -> list[str]:
    """The paths of the curves of this name."""
    groups = [
        group
        for figure in figures(page)
        for group in figure.iter(f"{SVG}g")
        if name in group.get("class", "") and "mark-line" in group.get("class", "")
    ]
    return [str(path.get("d")) for group in groups for path in group.iter(f"{SVG}path")]


def num_points(path: str) -> int:
    return len(re.findall("[ML]", path))


def test_every_stage_is_in_the_page_with_its_result(page: str) -> None:
    for stage in (*STAGES, "retrain"):
        assert f'id="stage-{stage}"' in page
    assert "Complete: all 9 stages have finished." in page
    assert len(page.encode()) < MAX_BYTES


def test_the_losses_in_the_page_are_those_of_the_records(finished: Path, page: str) -> None:
    for row in rows(finished, "retrain"):
        if "val_loss" in row and row["step"] == 12:
            for dataset in ("code_tokens", "tokens"):
                assert f"{row[f'val_loss/{dataset}']:.3f}" in page


def test_a_curve_has_as_many_points_as_the_records(finished: Path, page: str) -> None:
    for column in ("loss", "lr"):
        recorded = [
            sum(column in row for row in rows(finished, stage))
            for stage in ("pretrain", "longer", "retrain")
        ]
        assert [num_points(path) for path in lines_of(page, f"{column}_")] == recorded


def test_curves_count_the_tokens_of_all_ancestors(finished: Path) -> None:
    trainings = read_trainings(plan_folder(finished))
    each = 32 * 8
    starts = {name: it.start for name, it in trainings.items()}
    assert starts == {"pretrain": 0, "longer": 20 * each, "retrain": 30 * each}
    assert trainings["retrain"].points("loss")[0].tokens == 31 * each
    assert trainings["retrain"].points("val_loss/tokens")[-1].tokens == 42 * each


def test_a_report_uses_no_script_and_no_other_file(page: str) -> None:
    assert "<script" not in page
    outside = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s>)]+)""", page)
    assert [it for it in outside if not it.startswith(("#", "data:"))] == []


def test_ids_are_unique_and_links_lead_to_them(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    links = re.findall(r'href="#([^"]+)"', page)
    assert set(links) <= set(ids)
    assert {f"stage-{stage}" for stage in STAGES} <= set(links)


def test_an_experiment_that_has_not_run_says_so(experiment: Callable[..., Path]) -> None:
    page = report_of(experiment().parent)
    assert "Nothing has run yet." in page
    assert page.count("not begun") >= 1
    assert 'id="training"' not in page


HOSTILE = "<script>alert(1)</script> & \"quotes\" 'x' $x$ \\end{document} `code` | ![x](http://a)"


def test_an_experiment_called_script_stays_text(tmp_path: Path) -> None:
    folder = tmp_path / "<script>"
    folder.mkdir()
    document = yaml.safe_load(small_flow(only=FIRST_STAGES))
    document["description"] = HOSTILE
    (folder / "experiment.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    page = report_of(folder)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    Cli()("report", folder, "--format", "md")
    text = (folder / "results" / "report.md").read_text(encoding="utf-8")
    described = text.partition("**")[0]
    assert re.findall(r"(?<!\\)[<>\[\]`|$]", described) == []
    Cli()("report", folder, "--format", "latex")
    text = (folder / "results" / "report.tex").read_text(encoding="utf-8")
    assert r"\textbackslash{}end\{document\}" in text
    assert text.count(r"\end{document}") == 1


def test_a_failed_stage_is_reported_with_its_error(tmp_path: Path) -> None:
    with serve_texts() as texts:
        source = {"url": f"{texts.url}/a.txt", "sha256": "0" * 64}
        stages = {
            "book": {"kind": "fetch", "sources": [source]},
            "tokenizer": {"kind": "train_tokenizer", "corpus": "book", "vocab_size": 270},
        }
        document = {"continuum": 1, "name": "failing", "stages": stages}
        (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
        Cli()("run", tmp_path, expect=5)
    page = report_of(tmp_path)
    assert "Incomplete: 0 of 2 stages are complete. Not complete: book (failed)" in page
    assert re.search(r"<b>book</b>: <span[^>]*>[^<]*a\.txt", page)
    assert 'id="attempts"' in page


@pytest.mark.slow
def test_an_interrupted_stage_is_reported_and_its_recovery_marked(
    finished: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(finished, tmp_path / "toy")
    document = yaml.safe_load((folder / "experiment.yaml").read_text())
    document["stages"]["retrain"]["optimizer"]["lr"] = 1e-3
    (folder / "experiment.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    with pytest.raises(CrashError):
        run(folder, events=Events(Interruption("crash", "retrain", 12)))
    page = report_of(folder)
    assert "8 of 9 stages are complete. Not complete: retrain (interrupted)." in page
    assert re.search("step [0-9]+ of 12, loss", page)
    assert "optimizer.lr changed" in page.partition('id="runs"')[2]
    run(folder)
    (mark,) = read_trainings(plan_folder(folder))["retrain"].marks
    assert mark.what == RECOVERED
    assert mark.tokens > 30 * 32 * 8
    page = report_of(folder)
    assert "Complete: all 9 stages have finished." in page
    assert mark.text in page
    assert "Interruptions" in page


@pytest.mark.slow
def test_evaluations_are_a_matrix_in_the_order_of_training(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "toy")
    document = yaml.safe_load((folder / "experiment.yaml").read_text())
    scores = {"models": ["retrain", "pretrain", "longer"], "on": ["tokens", "code_tokens"]}
    document["stages"]["scores"] = {"kind": "evaluate", "sequences": 4, **scores}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    run(folder)
    page = report_of(folder)
    recorded = json.loads(only(folder, "runs/scores-*/artifact.json").read_text())
    section = page.partition('id="evaluation"')[2].partition("<h2")[0]
    (shown,) = figures(section)
    texts = [it.text for it in shown.iter(f"{SVG}text")]
    names = [it for it in texts if it in ("pretrain", "longer", "retrain")]
    assert names == ["pretrain", "longer", "retrain"]
    for score in recorded["artifact"]["scores"]:
        bits = score["loss"] * score["num_tokens"] / math.log(2) / score["num_bytes"]
        assert f"{bits:.3f}" in texts
        row = re.search(
            f"<th>{score['model']}</th><td>{score['text']} .*?</tr>", section, re.DOTALL
        )
        assert row is not None
        assert f">{score['loss']:.4f}<" in row[0]
        assert f">{score['num_tokens']:,}<" in row[0]


def test_skipped_steps_are_marked(finished: Path, tmp_path: Path) -> None:
    """As of a run that goes on: the records of a finished one are sealed."""
    folder = shutil.copytree(finished, tmp_path / "toy")
    pretrain = only(folder, "runs/pretrain-*")
    (pretrain / "artifact.json").unlink()
    path, skipped = pretrain / "metrics.jsonl", 0
    changed = []
    for row in rows(folder, "pretrain"):
        if row["step"] in (7, 8) and "loss" in row:
            skipped += 1
            row["loss"] = row["grad_norm"] = None  # type: ignore[assignment]
        changed.append(row | ({"skipped_steps": skipped} if "loss" in row else {}))
    path.write_text("".join(json.dumps(row) + "\n" for row in changed))
    training = read_trainings(plan_folder(folder))["pretrain"]
    assert [mark.what for mark in training.marks] == [SKIPPED, SKIPPED]
    assert len(training.points("loss")) == sum("loss" in row for row in changed) - 2
    page = report_of(folder)
    assert "1 step skipped up to step 7" in page
    assert "Crosses: skipped steps" in page


def test_metrics_that_cannot_be_read_end_no_report(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "toy")
    path = only(folder, "runs/pretrain-*/metrics.jsonl")
    path.write_text("{broken\n" + path.read_text())
    page = report_of(folder)
    assert "pretrain (damaged)" in page
    assert "metrics.jsonl was changed after the run was finished" in page


def test_a_spec_shows_what_it_changes_in_its_bases(experiment: Callable[..., Path]) -> None:
    base = experiment()
    (base.parent / "base.yaml").write_text(base.read_text())
    base.write_text(
        "continuum: 1\nname: own\nextends: base.yaml\n"
        "stages: {pretrain: {optimizer: {lr: 0.25}}, code: null, code_tokens: null,\n"
        "  retrain: {data: tokens}}\n"
    )
    page = report_of(base.parent)
    section = page.partition('id="spec"')[2].partition("<details>")[0]
    assert "base.yaml" in section
    changed = re.findall(r"<tr><th>(.*?)</th>.*?<code>(.*?)</code>.*?<code>(.*?)</code>", section)
    assert ("stages.pretrain.optimizer.lr", "0.005", "0.25") in changed
    assert ("name", "toy", "own") in changed
    assert "stages.tokenizer" not in section


def test_secrets_of_the_spec_are_not_in_the_report(experiment: Callable[..., Path]) -> None:
    secret = "hf_" + "a1B2" * 9
    path = experiment()
    path.write_text(f"# {secret}\n{path.read_text()}description: uses {secret}\n")
    assert secret not in report_of(path.parent)


def test_markdown_names_its_figures_and_has_a_graph(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "toy")
    Cli()("report", folder, "--format", "md")
    text = (folder / "results" / "report.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert pictures == ["figures/loss.svg", "figures/validation.svg"]
    for name in pictures:
        figure = (folder / "results" / name).read_text(encoding="utf-8")
        assert "prefers-color-scheme:dark" in figure
        assert ElementTree.fromstring(figure).tag == f"{SVG}svg"
    assert "```mermaid\ngraph TD\n" in text
    assert text.count("==>") == 3  # pretrain, longer, weights, retrain
    tables = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


@pytest.fixture(scope="module")
def latex(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(finished, tmp_path_factory.mktemp("latex") / "toy")
    text = (folder / "experiment.yaml").read_text()
    description = f"description: {json.dumps(HOSTILE + ' 漢字 Ærøskøbing łódź → … #%&_{}~^')}\n"
    (folder / "experiment.yaml").write_text(text + description, encoding="utf-8")
    Cli()("report", folder, "--format", "latex")
    return folder / "results"


@pytest.mark.slow
def test_latex_has_figures_at_the_size_of_paper(latex: Path) -> None:
    text = (latex / "report.tex").read_text(encoding="utf-8")
    named = re.findall(r"\\includegraphics(?:\[[^\]]*\])?\{([^}]+)\}", text)
    assert named == [f"figures/{name}.pdf" for name in ("stages", "loss", "validation")]
    for name in named:
        assert (latex / name).read_bytes().startswith(b"%PDF")
        assert (latex / name).with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    opened = re.findall(r"\\begin\{(\w+)\}", text)
    assert sorted(opened) == sorted(re.findall(r"\\end\{(\w+)\}", text))
    assert "U+6F22" in text


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs Debian's texlive")
def test_latex_compiles(latex: Path) -> None:
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    done = subprocess.run(command, cwd=latex, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert (latex / "report.pdf").stat().st_size > 10_000
