"""The folder of a prognosis and its report."""

from __future__ import annotations

import csv
import html.parser
import json
from dataclasses import replace

import numpy as np
import pytest

from REACTKDLib.cli import main
from REACTKDLib.deidentify import Pseudonyms
from REACTKDLib.errors import InputError, OutputError
from REACTKDLib.prognosis.report_page import prognosis_report_html
from REACTKDLib.prognosis.report_words import headline, outcome, sum_sentence
from REACTKDLib.prognosis.result import (
    deidentified_prognosis,
    is_prognosis,
    read_prognosis,
    write_prognosis,
)
from REACTKDLib.prognosis.types import Contribution
from REACTKDLib.report import CONTRIBUTIONS, PROGNOSIS, PROVENANCE, read_result
from REACTKDLib.resources import resource_path
from REACTKDLib.types import RESEARCH_USE, ClassInfo, Notice

PSEUDONYMS = Pseudonyms(b"sixteen bytes and more")


def same(one, other):
    """Whether two prognoses are equal, their volumes compared voxel by voxel."""
    plain = {k: v for k, v in vars(one).items() if k != "ct_case"}
    assert plain == {k: v for k, v in vars(other).items() if k != "ct_case"}
    a, b = one.ct_case, other.ct_case
    assert (a is None) == (b is None)
    if a is not None:
        assert np.array_equal(a.attention.array, b.attention.array)
        assert np.array_equal(a.region_labels.array, b.region_labels.array)
        assert a.shares == b.shares and a.regions == b.regions and a.bias == b.bias


@pytest.fixture(scope="module")
def folder(phantom_prognosis, tmp_path_factory):
    return write_prognosis(phantom_prognosis, tmp_path_factory.mktemp("result") / "case")


def test_what_is_written_is_read_back(phantom_prognosis, folder):
    assert {p.name for p in folder.iterdir()} == {
        "prognosis.json",
        "contributions.csv",
        "provenance.json",
        "regions.csv",
        "graph.json",
        "attention.nrrd",
        "regions.seg.nrrd",
    }
    assert is_prognosis(folder)
    same(read_prognosis(folder), replace(phantom_prognosis, provenance=plain(phantom_prognosis)))


def plain(result):
    return json.loads(json.dumps(dict(result.provenance)))


def test_without_a_ct_there_are_no_volumes(phantom_prognosis, tmp_path):
    without = replace(phantom_prognosis, ct_case=None)
    written = write_prognosis(without, tmp_path / "r")
    assert {p.name for p in written.iterdir()} == {PROGNOSIS, CONTRIBUTIONS, PROVENANCE}
    same(read_prognosis(written), replace(without, provenance=plain(without)))


def test_the_document_keeps_to_its_schema(folder):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(resource_path("Schemas/prognosis-1.json").read_text(encoding="utf-8"))
    document = json.loads((folder / PROGNOSIS).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema)
    inner = json.loads(resource_path("Schemas/result-1.json").read_text(encoding="utf-8"))
    jsonschema.validate(document["ct"], inner)
    document["ct"] = None
    jsonschema.validate(document, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "probability": 1.5}, schema)


def test_contributions_are_a_table_that_no_spreadsheet_runs(phantom_prognosis, tmp_path):
    evil = Contribution("age", "=HYPERLINK(1)", "clinical", 0.25, "+1", 0.01)
    result = replace(phantom_prognosis, contributions=(evil,), missing={"@x": "-y"}, ct_case=None)
    path = write_prognosis(result, tmp_path / "r") / CONTRIBUTIONS
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["level"] for row in rows] == ["modality"] * 3 + ["part", "missing"]
    part = rows[3]
    assert part["title"] == "'=HYPERLINK(1)" and part["value"] == "'+1"
    assert float(part["logit"]) == 0.25 and float(part["standard_error"]) == 0.01
    assert rows[4]["name"] == "'@x" and rows[4]["title"] == "'-y"


def test_nothing_is_overwritten_unasked_and_foreign_files_never(phantom_prognosis, tmp_path):
    result = replace(phantom_prognosis, ct_case=None)
    written = write_prognosis(result, tmp_path / "r")
    with pytest.raises(OutputError, match="exists and is not empty"):
        write_prognosis(result, written)
    write_prognosis(result, written, overwrite=True)
    (written / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match=r"did not write: notes\.txt"):
        write_prognosis(result, written, overwrite=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema_version=7), "prognosis schema 7"),
        (lambda d: d.pop("probability"), "missing fields"),
        (lambda d: d.update(probability=1.5), "no probability"),
        (lambda d: d.update(outcome="x"), "outcome 'x' has no class"),
        (lambda d: d.update(logit=99.0), "do not sum to the answer"),
        (lambda d: d["contributions"][0].update(modality="pet"), "of no modality"),
        (lambda d: d["modality_contributions"].reverse(), "not those of the modalities"),
        (lambda d: d.update(notices="none"), "notices"),
        (lambda d: d["ct"].update(target="x"), "numbers are not those"),
    ],
)
def test_a_damaged_result_is_refused(folder, tmp_path, change, message):
    import shutil

    copy = shutil.copytree(folder, tmp_path / "r")
    document = json.loads((copy / PROGNOSIS).read_text(encoding="utf-8"))
    change(document)
    (copy / PROGNOSIS).write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_prognosis(copy)


def test_other_folders_are_told_apart(folder, tmp_path):
    with pytest.raises(InputError, match=r"is not a prognosis: prognosis\.json is missing"):
        read_prognosis(tmp_path)
    with pytest.raises(InputError, match=r"result\.json is missing"):
        read_result(folder)


def test_a_deidentified_result_names_nobody(phantom_prognosis):
    old = Contribution("age", "Age", "clinical", 0.1, "93 years")
    young = Contribution("age", "Age", "clinical", 0.1, "89 years")
    result = replace(phantom_prognosis, case_id="Miller", contributions=(old, young))
    result = replace(result, ct_case=replace(result.ct_case, case_id="Miller"))
    hidden = deidentified_prognosis(result, PSEUDONYMS)
    assert hidden.case_id == hidden.ct_case.case_id == PSEUDONYMS.name("case", "Miller")
    assert [one.value for one in hidden.contributions] == ["more than 89 years", "89 years"]
    assert hidden.provenance["deidentified"] and hidden.provenance["time_utc"] == ""
    assert all(e["path"] == "(removed)" and not e["sha256"] for e in hidden.provenance["inputs"])
    assert hidden.ct_case.provenance == hidden.provenance
    assert hidden.probability == result.probability


class Page(html.parser.HTMLParser):
    """Tags that are open, and all that is written between them."""

    void = ("meta", "img", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open, self.text, self.tags = [], "", set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag not in self.void:
            self.open.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


def read_page(text: str) -> Page:
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    return page


@pytest.mark.parametrize("simple", [False, True])
def test_the_report_says_what_matters(phantom_prognosis, simple):
    page = read_page(prognosis_report_html(phantom_prognosis, {}, simple=simple))
    for part in (
        RESEARCH_USE,
        "Warning: model of simulated patients",
        headline(phantom_prognosis),
        "Contribution of each modality (Shapley value)",
        "they explain all of it",
        "Albumin",
        "41 g/l",
        "Missing variables",
        "Bilirubin",
        "What the CT's branch saw",
        "the shares explain all of it",
        "random-prognosis 0.0.1",
        "seed 0",
    ):
        assert part in page.text, part
    assert "script" not in page.tags
    assert headline(phantom_prognosis).startswith("Death within one year: ")


def test_the_report_escapes_everything(phantom_prognosis):
    evil = "<img src=x onerror=alert(1)>"
    result = replace(
        phantom_prognosis,
        case_id=evil,
        task_title=evil,
        outcome_title=evil,
        classes=(ClassInfo("survived", evil), ClassInfo("died", evil)),
        contributions=(Contribution("age", evil, "clinical", 0.1, evil),),
        missing={"x": evil},
        notices=(Notice("x", "warning", evil),),
        ct_case=None,
        provenance={"model": {"name": evil, "version": "", "weights_sha256": evil}},
    )
    page = read_page(prognosis_report_html(result, {}))
    assert "img" not in page.tags
    assert page.text.count(evil) >= 6


def test_an_outcome_without_words_has_its_class_and_time(phantom_prognosis):
    assert outcome(replace(phantom_prognosis, outcome_title="")) == "Died (1 year)"
    assert outcome(replace(phantom_prognosis, outcome_title="", horizon="")) == "Died"


def test_a_sum_that_does_not_hold_is_shouted(phantom_prognosis):
    assert "DO NOT ADD UP" in sum_sentence(replace(phantom_prognosis, logit=99.0))


def test_a_report_of_a_result_without_simulation_does_not_warn(phantom_prognosis):
    real = replace(phantom_prognosis, simulated_model=False, notices=())
    page = read_page(prognosis_report_html(real, {}))
    assert "simulated" not in page.text.lower()


def test_the_command_report_writes_it(folder, tmp_path, capsys):
    page = tmp_path / "report.html"
    assert main(["report", str(folder), "--output", str(page)]) == 0
    assert "Death within one year" in page.read_text(encoding="utf-8")
    assert main(["report", str(folder), "--output", str(page)]) == 5
    assert "--overwrite" in capsys.readouterr().err
