"""Which CT series of a study is read, and what is said about it."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from images import OBLIQUE, ct_array, write_dicom

from REACTKDLib.cli import main
from REACTKDLib.dicom_input.choose_series import choose_series, judge_folder
from REACTKDLib.dicom_input.contrast_phase import phase_in_words, phases
from REACTKDLib.dicom_input.files import list_series
from REACTKDLib.errors import InputError, OptionError
from REACTKDLib.geometry import Geometry

CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0, 0.0)


def add(folder, uid, description="abdomen", *, step=2.5, slices=8, axes=None, **tags):
    """A CT series; ``tags`` by the names below."""
    keys = {
        "image_type": "0008|0008", "agent": "0018|0010", "start": "0018|1042",
        "kernel": "0018|1210", "date": "0008|0022", "time": "0008|0032", "sop": "0008|0016",
        "study": "0020|000d", "rescale": "0028|1054", "frame": "0020|0052", "modality": "0008|0060",
        "protocol": "0018|1030",
    }  # fmt: skip
    geometry = Geometry(
        (14, 11, slices), (0.8, 1.1, step), OBLIQUE.origin_lps, axes or OBLIQUE.direction_lps
    )
    array = np.resize(ct_array(), geometry.array_shape)
    return write_dicom(
        folder / uid, array, geometry, uid=uid, description=description,
        tags={keys[name]: value for name, value in tags.items()},
    )  # fmt: skip


def chosen(folder, **options) -> str:
    return choose_series(folder, **options)[0].uid


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"description": "portal venous"}, {"description": "arterial"}),
        ({"description": "portalvenös"}, {"description": "Leber nativ"}),
        ({"description": "late"}, {"agent": "Iomeron"}),
        ({"agent": "Iomeron"}, {"description": "arterial"}),
        ({"description": "arterial"}, {"description": "abdomen"}),
        ({"description": "abdomen"}, {"description": "without contrast"}),
        ({"image_type": "ORIGINAL\\PRIMARY\\AXIAL"}, {"image_type": "DERIVED\\SECONDARY\\MPR"}),
        ({}, {"axes": CORONAL}),
        ({"kernel": "B30f"}, {"kernel": "B70f"}),
        ({"kernel": "STANDARD"}, {"kernel": "LUNG"}),
        ({"kernel": "Br40d\\3"}, {"kernel": "Bl57d\\3"}),
        ({"step": 20.0}, {"step": 2.5}),  # 140 mm by 8 slices of 20 mm is no liver, 17 mm neither
        ({"step": 2.5}, {"step": 5.0, "slices": 4}),
        ({"step": 1.0, "slices": 16}, {"step": 0.4, "slices": 40}),
        ({"slices": 12}, {"slices": 8}),
    ],
)
def test_each_criterion_decides(tmp_path, better, worse):
    if better.get("step") == 20.0:
        better, worse = {"step": 20.0, "slices": 9}, {"step": 2.0, "slices": 9}  # 160 and 16 mm
    for order, (first, second) in enumerate([(better, worse), (worse, better)]):
        folder = tmp_path / f"{order}"
        add(folder, "1.2.1", **first)
        add(folder, "1.2.2", **second)
        assert chosen(folder) == ("1.2.1", "1.2.2")[order]


def test_the_order_of_the_criteria(tmp_path):
    add(tmp_path, "1.2.1", "portal venous", image_type="DERIVED\\PRIMARY\\MPR")
    add(tmp_path, "1.2.2", "native", kernel="LUNG")
    assert chosen(tmp_path) == "1.2.2"  # original before phase
    add(tmp_path, "1.2.3", "portal venous", kernel="LUNG", step=5.0)
    assert chosen(tmp_path) == "1.2.3"  # phase before kernel and step


@pytest.mark.parametrize(
    ("why", "tags"),
    [
        ("localiser", {"image_type": "ORIGINAL\\PRIMARY\\LOCALIZER"}),
        ("maximum intensity", {"image_type": "DERIVED\\SECONDARY\\AXIAL\\MIP"}),
        ("not CT", {"modality": "MR"}),
        ("secondary capture", {"sop": "1.2.840.10008.5.1.4.1.1.7"}),
        ("not HU", {"rescale": "MGML"}),
        ("material map", {"image_type": "DERIVED\\PRIMARY\\IODINE"}),
        ("one slice", {"slices": 1}),
    ],
)
def test_what_never_is_a_ct_volume(tmp_path, why, tags):
    add(tmp_path, "1.2.1", "portal venous", **tags)
    with pytest.raises(InputError, match="no CT series of several slices") as error:
        choose_series(tmp_path)
    assert why in error.value.advice
    add(tmp_path, "1.2.2", "native")
    series, choice = choose_series(tmp_path)
    assert series.uid == "1.2.2"
    assert why in choice.others[0]


def test_a_series_with_a_gap_is_passed_over_for_a_whole_one(tmp_path):
    add(tmp_path, "1.2.1", "portal venous")[3].unlink()
    with pytest.raises(InputError, match="not evenly spaced"):
        choose_series(tmp_path)
    add(tmp_path, "1.2.2", "native")
    series, choice = choose_series(tmp_path)
    assert series.uid == "1.2.2"
    assert "not evenly spaced" in choice.others[0]


def test_localisers_in_the_series_are_left_out(tmp_path):
    add(tmp_path, "1.2.1")
    files = add(tmp_path / "scout", "1.2.1", axes=CORONAL, slices=2,
                image_type="ORIGINAL\\PRIMARY\\LOCALIZER")  # fmt: skip
    assert len(files) == 2
    series, choice = choose_series(tmp_path)
    assert series.count == 8
    assert "localiser" in choice.others[0]
    assert choose_series(tmp_path, "1.2.1")[0].count == 8


def test_nothing_decides(tmp_path):
    add(tmp_path, "1.2.1", "portal venous 1")
    add(tmp_path, "1.2.2", "portal venous 2", step=2.6)
    with pytest.raises(InputError, match="between which nothing decides") as error:
        choose_series(tmp_path)
    assert "--series" in error.value.advice
    assert chosen(tmp_path, series_uid="1.2.2") == "1.2.2"
    # What the segmentation was drawn on decides before all else.
    assert chosen(tmp_path, drawn_on={"1.2.2"}) == "1.2.2"


def test_a_phase_that_is_asked_for(tmp_path):
    add(tmp_path, "1.2.1", "portal venous")
    add(tmp_path, "1.2.2", "arterial", step=5.0)
    assert chosen(tmp_path) == "1.2.1"
    assert chosen(tmp_path, phase="arterial") == "1.2.2"
    with pytest.raises(InputError, match="no CT series of the late phase") as error:
        choose_series(tmp_path, phase="late")
    assert "1.2.1" in error.value.advice
    with pytest.raises(OptionError, match="'venous'"):
        choose_series(tmp_path, phase="venous")


def test_several_studies(tmp_path):
    add(tmp_path, "1.2.1", "portal venous", study="1.9.1")
    add(tmp_path, "1.2.2", "native", study="1.9.2")
    with pytest.raises(InputError, match="of 2 studies"):
        choose_series(tmp_path)
    assert chosen(tmp_path, series_uid="1.2.2") == "1.2.2"


@pytest.mark.parametrize(
    ("text", "phase"),
    [
        ("Abd portalvenous 2.0 B30f", "portal"), ("ABDOMEN_PV", "portal"), ("Ven 3mm", "portal"),
        ("VenousPhase", "portal"), ("LateArterial", "arterial"), ("art.", "arterial"),
        ("Spät 5 min", "late"), ("delayed", "late"), ("Abdomen nativ", "native"),
        ("CT w/o contrast", "native"), ("non-contrast", "native"), ("Abdomen ohne KM", "native"),
        ("arterial + portal venous", None), ("Abdomen 5.0", None), ("Partial volume", None),
        ("heart", None), ("inventory", None), ("", None),
    ],
)  # fmt: skip
def test_phases_in_words(text, phase):
    assert phase_in_words(text) == phase


def names(folder):
    return {s.uid: p for s, p in zip(list_series(folder), phases(list_series(folder)), strict=True)}


def test_phase_by_the_time_since_the_injection(tmp_path):
    for uid, time in (("1.2.1", "120035"), ("1.2.2", "120110"), ("1.2.3", "120400")):
        add(tmp_path, uid, agent="Iomeron", date="20200101", time=time, start="120000")
    found = names(tmp_path)
    assert [found[f"1.2.{n}"].name for n in (1, 2, 3)] == ["arterial", "portal", "late"]
    assert found["1.2.2"].why == "70 s after the injection began"


def test_phase_by_the_order_of_acquisitions(tmp_path):
    times = {"1.2.1": "120500", "1.2.2": "120110", "1.2.3": "120035", "1.2.4": "120110.5"}
    for uid, time in times.items():
        add(tmp_path, uid, agent="Iomeron", date="20200101", time=time)
    add(tmp_path, "1.2.5", date="20200101", time="115000")
    found = {uid: phase.name for uid, phase in names(tmp_path).items()}
    assert found == {
        "1.2.1": "late", "1.2.2": "portal", "1.2.3": "arterial", "1.2.4": "portal",
        "1.2.5": "unknown",
    }  # fmt: skip
    assert "guessed" in names(tmp_path)["1.2.2"].why
    # One series that says its phase ends the guessing.
    add(tmp_path, "1.2.6", "arterial", agent="Iomeron", date="20200101", time="120035")
    assert names(tmp_path)["1.2.2"].name == "enhanced"


def test_the_choice_is_said_and_names_nobody(tmp_path, caplog):
    add(tmp_path, "1.2.1", "portal venous")
    add(tmp_path, "1.2.2", "arterial")
    with caplog.at_level(logging.INFO, logger="REACTKD"):
        _, choice = choose_series(tmp_path)
    assert choice.why in caplog.text
    assert "portal venous phase (from its description)" in choice.why
    assert "arterial phase" in choice.others[0]
    assert "Secret" not in caplog.text + choice.why + str(choice.others)


def test_the_listing(tmp_path, capsys):
    add(tmp_path, "1.2.1", "portal venous")
    add(tmp_path, "1.2.2", "coronal", axes=CORONAL)
    add(tmp_path, "1.2.3", "scout", image_type="ORIGINAL\\PRIMARY\\LOCALIZER")
    assert main(["series", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert '*    3  "portal venous"  CT  8 slices every 2.50 mm, axial' in text
    assert "not chosen: a localiser" in text
    assert "Secret" not in text
    assert main(["series", str(tmp_path), "--log-json"]) == 0
    records = json.loads(capsys.readouterr().out)["series"]
    assert [r["uid"] for r in records if r["chosen"]] == ["1.2.1"]
    assert {r["direction"] for r in records} == {"axial", "coronal", None}
    assert main(["series", str(tmp_path), "--phase", "late"]) == 0
    assert "None is chosen" in capsys.readouterr().out
    assert main(["series", str(tmp_path), "--phase", "x"]) == 2
    verdict = judge_folder(tmp_path)
    assert verdict.problem is None and len(verdict.others) == 2
