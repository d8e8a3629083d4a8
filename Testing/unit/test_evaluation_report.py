"""Rows, figures and the report of a run."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text
from scipy.special import softmax
from sklearn.metrics import silhouette_score

from REACTKDLib.errors import InputError, OptionError, OutputError
from training.evaluation.bootstrap import Estimate, Fold, band, interval
from training.evaluation.calibration import reliability_table
from training.evaluation.decision import macro_net_benefit
from training.evaluation.discrimination import mean_auc
from training.evaluation.figures import (
    decision_figure,
    dose_figure,
    png,
    reliability_figure,
    roc_figure,
    save_png,
)
from training.evaluation.figures_cases import attention_figure, embed, embedding_figure
from training.evaluation.html_report import (
    NOT_REPORTED,
    FlowStep,
    ReportContent,
    ReportFigure,
    checklist_items,
    html_report,
    write_report,
)
from training.evaluation.results import (
    Results,
    Row,
    markdown_table,
    read_results,
    row_of,
    write_results,
)

TITLES = ("well", "moderate", "poor")
ROW = Row("student", "external", 5e4, "macro AUC", 0.78, 0.71, 0.85, 105, (0, 1, 2))


def sample(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    return labels, softmax(rng.normal(size=(n, 3)) + np.eye(3)[labels], axis=1)


# Rows.


def test_results_are_read_as_written(tmp_path):
    other = row_of("KD", "external", "macro AUC", Estimate(0.7, 0.6, 0.8, 105), [4])
    results = Results((ROW, other), simulated=True)
    path = tmp_path / "new" / "results.json"
    write_results(path, results)
    assert read_results(path) == results
    assert other.dose is None and other.seeds == (4,)
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]


@pytest.mark.parametrize(
    "change",
    [
        {"method": " "},
        {"value": float("nan")},
        {"high": float("inf")},
        {"value": "0.78"},
        {"low": 0.9},
        {"n": 0},
        {"n": 10.5},
        {"n": True},
        {"dose": 0.0},
        {"dose": float("nan")},
        {"seeds": ()},
        {"seeds": (1, 1)},
    ],
)
def test_a_row_that_is_none_is_refused_when_made_and_when_read(change, tmp_path):
    with pytest.raises(InputError, match="is no result"):
        dataclasses.replace(ROW, **change)
    path = tmp_path / "results.json"
    write_results(path, Results((ROW,), simulated=False))
    document = json.loads(path.read_text())
    document["rows"][0] |= change
    path.write_text(json.dumps(document))
    with pytest.raises(InputError):
        read_results(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("rows"),
        lambda d: d.update(schema_version=2),
        lambda d: d.update(simulated="yes"),
        lambda d: d["rows"][0].pop("n"),
        lambda d: d["rows"][0].update(more=1),
        lambda d: d["rows"].append(d["rows"][0]),
    ],
)
def test_a_damaged_file_is_refused(change, tmp_path):
    path = tmp_path / "results.json"
    write_results(path, Results((ROW,), simulated=False))
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(InputError):
        read_results(path)


def test_what_is_no_file_or_no_json_is_refused(tmp_path):
    with pytest.raises(InputError, match="no results file"):
        read_results(tmp_path / "nowhere.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match="no results file"):
        read_results(tmp_path / "a.json")


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError):
        write_results(tmp_path / "file" / "results.json", Results((ROW,), simulated=False))
    folder = tmp_path / "results.json"
    folder.mkdir()
    (folder / "kept").write_text("mine")
    with pytest.raises(OutputError):
        write_results(folder, Results((ROW,), simulated=False))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "results.json"]
    assert (folder / "kept").read_text() == "mine"


def test_the_table_says_simulated_n_and_interval_and_keeps_its_cells():
    odd = dataclasses.replace(ROW, method="a|b\n<i>", dose=None)
    text = markdown_table(Results((ROW, odd), simulated=True))
    assert text.startswith("Simulated data.\n\n| method |")
    assert "| student | external | 50000 | macro AUC | 0.780 | 0.710 to 0.850 | 105 | 3 |" in text
    assert r"| a\|b &lt;i> | external | as acquired |" in text
    assert "imulated" not in markdown_table(Results((ROW,), simulated=False))


# Figures.


def texts(figure: Figure) -> str:
    return "\n".join(t.get_text() for t in figure.findobj(Text))


def figure_of(kind: str, simulated: bool) -> Figure:
    labels, p = sample(60, 0)
    if kind == "roc":
        return roc_figure([Fold(*sample(30, s)) for s in (1, 2)], TITLES, 0, simulated=simulated)
    if kind == "decision":
        t = np.linspace(0.1, 0.6, 11)
        curves = {"a": band(macro_net_benefit(t), labels, p, 0, 50)}
        curves["b"] = band(macro_net_benefit(t), labels, sample(60, 3)[1], 0, 50)
        everybody = macro_net_benefit(t, treat_all=True)(labels, p)[0]
        return decision_figure(t, curves, everybody, simulated=simulated)
    if kind == "reliability":
        return reliability_figure({"a": reliability_table(labels, p)}, simulated=simulated)
    if kind == "dose":
        points = {1e6: Estimate(0.8, 0.7, 0.9, 60), 5e2: Estimate(0.7, 0.6, 0.8, 60)}
        return dose_figure({"a": points, "b": points}, "macro AUC", simulated=simulated)
    if kind == "embedding":
        return embedding_figure([(labels, p)], TITLES, 0, simulated=simulated)
    region = np.zeros((4, 10, 12), dtype=bool)
    region[2, 3:6, 4:8] = True
    maps = {"without": np.ones(region.shape), "with": region - 0.2}
    return attention_figure(
        60.0 * region, maps, region, (5, 1, 2), "logit per litre", simulated=simulated
    )


KINDS = ("roc", "decision", "reliability", "dose", "embedding", "attention")


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_says_n_and_simulated_and_is_a_small_png(kind, tmp_path):
    figure = figure_of(kind, simulated=True)
    assert "(simulated data)" in texts(figure) and "Research use only" in texts(figure)
    assert ("n = 1 case, slice 2" if kind == "attention" else "n = 60") in texts(figure)
    save_png(figure, tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    assert content == png(figure_of(kind, simulated=True)) and len(content) < 300_000
    pixels = imread(io.BytesIO(content))
    assert min(pixels.shape[:2]) > 300 and max(pixels.shape[:2]) < 1300
    assert pixels.std() > 0.02
    assert "imulated" not in texts(figure_of(kind, simulated=False))


def test_the_roc_legend_is_the_bootstrap():
    labels, p = sample(60, 0)
    found = texts(roc_figure([Fold(labels, p)], TITLES, 0, simulated=True))
    e = interval(mean_auc, labels, p, 0)
    assert f"macro {e.value:.3f} ({e.low:.3f} to {e.high:.3f})" in found
    with pytest.raises(InputError, match="2 titles for 3"):
        roc_figure([Fold(labels, p)], TITLES[:2], 0, simulated=True)


def test_the_dose_falls_to_the_right_and_points_stand_at_their_values():
    axes = figure_of("dose", True).axes[0]
    assert axes.get_xscale() == "log"
    left, right = axes.get_xlim()
    assert left > 1e6 and right < 5e2
    bars = [c for c in axes.containers if isinstance(c, ErrorbarContainer)]
    assert [list(b.lines[0].get_ydata()) for b in bars] == [[0.7, 0.8], [0.7, 0.8]]


def test_the_attention_panels_share_one_scale_and_the_chosen_slice():
    figure = figure_of("attention", True)
    images = [a.images for a in figure.axes[:3]]
    assert [len(i) for i in images] == [1, 2, 2]
    assert images[1][1].get_clim() == images[2][1].get_clim() == pytest.approx((-1, 1))
    assert images[2][1].get_array()[4, 5] == pytest.approx(0.8)
    assert figure.axes[0].get_aspect() == pytest.approx(0.5)  # j 1 mm, i 2 mm


def test_empty_bins_do_not_stretch_their_neighbours():
    p = np.array([[0.55, 0.45]] * 4 + [[0.95, 0.05]] * 6)
    table = reliability_table(np.array([0, 1] * 5), p)
    bars = reliability_figure({"a": table}, simulated=True).axes[1].patches
    assert [(b.get_x(), b.get_width(), b.get_height()) for b in bars] == [
        (pytest.approx(0.5), pytest.approx(0.1), 4),
        (pytest.approx(0.9), pytest.approx(0.1), 6),
    ]


def test_an_embedding_is_seeded_and_keeps_groups():
    rng = np.random.default_rng(0)
    labels = np.arange(45) % 3
    features = rng.normal(size=(45, 8)) + 8 * np.eye(8)[labels]
    points = embed(features, seed=1)
    assert np.array_equal(points, embed(features, seed=1))
    assert silhouette_score(points, labels) > 0.5
    with pytest.raises(InputError, match="cannot be embedded"):
        embed(features[:4], 0)


def test_figures_refuse_what_cannot_be_compared():
    labels, p = sample(60, 0)
    with pytest.raises(InputError, match="same patients"):
        reliability_figure(
            {"a": reliability_table(labels, p), "b": reliability_table(labels[1:], p[1:])},
            simulated=True,
        )
    point = {1e4: Estimate(0.8, 0.7, 0.9, 60)}
    with pytest.raises(InputError, match="9 lines"):
        dose_figure({str(n): point for n in range(9)}, "AUC", simulated=True)
    with pytest.raises(InputError, match="photons"):
        dose_figure({"a": {0.0: point[1e4]}}, "AUC", simulated=True)


def test_figures_need_no_display_and_no_torch():
    """Nor do they choose a backend for the rest of the process."""
    program = (
        "import sys, numpy as np\n"
        "from training.evaluation.figures import dose_figure, png\n"
        "from training.evaluation.bootstrap import Estimate\n"
        "import training.evaluation.figures_cases, training.evaluation.html_report\n"
        "import training.evaluation.perturbation, training.evaluation.randomisation\n"
        "png(dose_figure({'a': {1e4: Estimate(.8, .7, .9, 5)}}, 'AUC', simulated=True))\n"
        "assert not {'torch', 'pandas', 'matplotlib.pyplot'} & set(sys.modules)\n"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run(
        [sys.executable, "-c", program], cwd=root, env={"MPLBACKEND": "QtAgg"}, check=True
    )


# Report.


class _Reader(HTMLParser):
    """Text, tags and attributes; open tags must be closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + "\n"


def read_html(text: str) -> _Reader:
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


EVIL = '<script>alert("x")</script>&\'"'


def test_everything_is_escaped_and_nothing_is_fetched(tmp_path):
    image = png(figure_of("dose", True))
    content = ReportContent(
        title=EVIL,
        results=Results((dataclasses.replace(ROW, method=EVIL),), simulated=True),
        configuration={EVIL: EVIL},
        flow=[FlowStep(EVIL, 7)],
        figures=[ReportFigure(EVIL, image)],
        calibration=[dataclasses.replace(ROW, metric=EVIL)],
        calibration_figures=[ReportFigure(EVIL, image)],
        explanation=[dataclasses.replace(ROW, cohort=EVIL)],
        answers={"claim-22": EVIL},
    )
    write_report(tmp_path / "report.html", content)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text == html_report(content)
    reader = read_html(text)
    names = {tag for tag, _ in reader.tags}
    assert not names & {"script", "link", "iframe"}
    assert reader.text.count(EVIL) == 11
    sources = [a["src"] for tag, a in reader.tags if tag == "img"]
    assert len(sources) == 2 and all(s.startswith("data:image/png;base64,") for s in sources)
    assert "http" not in text
    assert all(set(a) <= {"class", "lang", "charset", "alt", "src"} for _, a in reader.tags)


def test_the_report_has_its_sections_banners_and_gaps():
    reader = read_html(html_report(ReportContent("Run", Results((ROW,), simulated=True))))
    for section in ("Configuration", "Data flow", "Results", "Calibration", "Explanation scores"):
        assert f"\n{section}\n" in reader.text
    assert "Research use only" in reader.text and "Simulated data" in reader.text
    assert "0.710 to 0.850" in reader.text and "\n105\n" in reader.text
    items = checklist_items()
    # Configuration, flow, figures, calibration, explanation and every item are unknown.
    assert reader.text.count(NOT_REPORTED) == len(items) + 5
    real = html_report(ReportContent("Run", Results((ROW,), simulated=False)))
    assert "Simulated" not in real and "Research use only" in real


def test_answers_fill_their_item_and_are_counted():
    answers = {"claim-20": "patient", "tripod-12a": "three folds"}
    content = ReportContent("Run", Results((), simulated=True), answers=answers)
    text = html_report(content)
    assert "CLAIM 2024: 1 of 44 items" in text and "TRIPOD+AI: 1 of 52 items" in text
    items = {i.id: i for i in checklist_items()}
    for key, answer in answers.items():
        assert f"<td>{items[key].text}</td><td>{answer}</td>" in text
    for wrong in ({"claim-99": "x"}, {"claim-20": " "}):
        with pytest.raises(OptionError, match="unknown or empty"):
            html_report(dataclasses.replace(content, answers=wrong))


def test_the_checklists_are_whole():
    items = checklist_items()
    assert len({i.id for i in items}) == len(items)
    claim = [i.item for i in items if i.checklist == "CLAIM 2024"]
    assert claim == [str(n) for n in range(1, 45)]
    tripod = [i.item for i in items if i.checklist == "TRIPOD+AI"]
    assert len(tripod) == 52
    assert sorted({int(i.rstrip("abcdefg")) for i in tripod}) == list(range(1, 28))
    assert all(i.text.endswith(".") and i.section for i in items)


def test_what_is_no_picture_is_refused():
    with pytest.raises(InputError, match="no PNG"):
        ReportFigure("caption", b"<svg>")
