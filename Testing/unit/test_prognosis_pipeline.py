"""From CT, segmentation and clinical record to a prognosis."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from phantoms import CT_GRID
from random_prognosis import RECORD, SCHEMA, record, write_random_prognosis
from scipy.special import expit

from REACTKDLib.errors import InputError, OptionError
from REACTKDLib.geometry import Geometry
from REACTKDLib.prognosis.answer import patient_batch
from REACTKDLib.prognosis.ct_branch import to_positions
from REACTKDLib.prognosis.inputs import read_inputs
from REACTKDLib.prognosis.model import load_network
from REACTKDLib.prognosis.networks.build import log_odds
from REACTKDLib.prognosis.pipeline import (
    PrognosisFiles,
    PrognosisOptions,
    _Clock,
    run_prognosis,
    run_prognosis_files,
)
from REACTKDLib.prognosis.report_words import provenance_lines
from REACTKDLib.prognosis.types import MODALITIES, ClinicalRecord
from REACTKDLib.read import StudyFiles
from REACTKDLib.types import Segmentation, Study, Volume


def codes(result):
    return [notice.code for notice in result.notices]


def test_the_answer_is_the_calibrated_answer_of_the_network(
    phantom_prognosis, random_prognosis, ct_study
):
    clock = _Clock(lambda stage, done: None)
    metadata = random_prognosis.metadata
    inputs = read_inputs(ct_study, RECORD, metadata, None, clock.stage, clock.within)
    batch, _ = patient_batch(inputs.arrays, RECORD, metadata)
    with torch.inference_mode():
        logits = load_network(random_prognosis, "cpu").network(batch).logits
    expected = -0.3 + float(log_odds(logits.double(), 1)) / 1.4
    assert phantom_prognosis.logit == pytest.approx(expected, abs=1e-4)
    assert phantom_prognosis.probability == pytest.approx(expit(expected), abs=1e-5)
    assert phantom_prognosis.modalities == MODALITIES


def test_contributions_sum_to_the_answer_and_parts_to_their_modality(phantom_prognosis):
    result = phantom_prognosis
    total = math.fsum(one.logit for one in result.modality_contributions)
    assert result.base_logit + total == pytest.approx(result.logit, abs=1e-5)
    for name in ("clinical", "radiomics"):
        parts = [one.logit for one in result.contributions if one.modality == name]
        assert math.fsum(parts) == pytest.approx(result.of_modality(name).logit, abs=1e-5)
        assert max(map(abs, parts)) > 1e-3
    clinical = {one.name: one for one in result.contributions if one.modality == "clinical"}
    assert set(clinical) == {"age", "sex", "albumin", "ascites"}
    assert clinical["albumin"].title == "Albumin" and clinical["albumin"].value == "41 g/l"
    assert clinical["ascites"].value == "no" and clinical["ascites"].error == 0
    families = {one.name: one for one in result.contributions if one.modality == "radiomics"}
    assert families["original_shape"].value == "5 features"
    assert dict(result.missing) == {"bilirubin": "Bilirubin"}
    assert "missing_variables" in codes(result) and "simulated_model" in codes(result)


def test_the_ct_branch_is_divided_among_regions_exactly(phantom_prognosis):
    case = phantom_prognosis.ct_case
    for name in ("survived", "died"):
        parts = [share.logit_shares[name] for share in case.shares]
        total = math.fsum([*parts, case.outside_logit_shares[name], case.bias[name]])
        assert total == pytest.approx(case.logits[name], abs=1e-5)
    shares = math.fsum([*(share.share for share in case.shares), case.outside_share])
    assert shares == pytest.approx(case.contrast - case.reference_contrast, abs=1e-5)
    assert abs(shares) > 1e-3
    attention = [share.attention for share in case.shares]
    assert 0.5 < sum(attention) <= 1 and min(attention) >= 0
    assert case.probabilities["died"] == phantom_prognosis.probability
    assert case.attention.geometry.same_grid(CT_GRID)
    assert [region.kind for region in case.regions][:2] == ["lesion", "lesion"]
    # The map is the shares' density: integrals over the whole and over a large region agree with
    # them, but for its interpolation on the CT's grid.
    litre = CT_GRID.voxel_volume_ml / 1000
    assert case.attention.array.sum(dtype=np.float64) * litre == pytest.approx(shares, rel=0.05)


def test_positions_share_voxels_as_linear_interpolation_does():
    rng = np.random.default_rng(1)
    stride, values = (2, 4, 1), rng.normal(size=(4, 3, 6))
    k, j, i = (np.arange((n - 1) * s + 1) / s for n, s in zip(values.shape, stride, strict=True))
    from scipy.ndimage import map_coordinates

    places = np.meshgrid(k, j, i, indexing="ij")
    fine = map_coordinates(values, places, order=1)
    voxels = rng.uniform(size=fine.shape)
    sums = to_positions(voxels, stride)
    assert sums.shape == values.shape
    assert sums.sum() == pytest.approx(voxels.sum())
    assert (sums * values).sum() == pytest.approx((voxels * fine).sum())


def flipped(study: Study) -> Study:
    """The same study with CT and labels stored the other way round along i."""
    grid = study.ct.geometry
    direction = np.array(grid.direction_lps).reshape(3, 3)
    last = grid.lps_from_ijk(np.array([grid.size[0] - 1, 0, 0]))
    other = Geometry(
        grid.size,
        grid.spacing_mm,
        tuple(float(v) for v in last),
        tuple((direction * np.array([-1, 1, 1])).ravel().tolist()),
    )
    ct = Volume(study.ct.array[:, :, ::-1].copy(), other, "CT")
    labels = study.segmentation
    turned = Segmentation(labels.labels[:, :, ::-1].copy(), other, labels.segments)
    return Study({"ct": ct}, turned, study.case_id)


def test_the_order_in_which_voxels_are_stored_does_not_matter(random_prognosis, ct_study, tmp_path):
    """Radiomics are PyRadiomics', whose grid begins at the CT's first voxel: they are left out."""
    network = replace(random_prognosis.metadata.network, modalities=("ct", "clinical"))
    package = write_random_prognosis(tmp_path / "ct", network=network)
    one = run_prognosis(ct_study, RECORD, package)
    other = run_prognosis(flipped(ct_study), RECORD, package)
    assert other.logit == pytest.approx(one.logit, abs=1e-3)
    for a, b in zip(one.ct_case.shares, other.ct_case.shares, strict=True):
        assert b.share == pytest.approx(a.share, abs=1e-3)


@pytest.mark.parametrize(
    "there", [c for n in (1, 2) for c in itertools.combinations(("image", "clinical"), n)]
)
def test_any_modality_may_be_missing(there, ct_study, random_prognosis):
    study = ct_study if "image" in there else None
    clinical = RECORD if "clinical" in there else None
    result = run_prognosis(study, clinical, random_prognosis)
    expected = [
        m for m in MODALITIES if (m == "clinical" and clinical) or (m != "clinical" and study)
    ]
    assert list(result.modalities) == expected
    assert (result.ct_case is None) == (study is None)
    assert ("missing_modality" in codes(result)) == (len(there) < 2)
    total = result.base_logit + math.fsum(c.logit for c in result.modality_contributions)
    assert total == pytest.approx(result.logit, abs=1e-5)
    if clinical is None:
        assert set(result.missing) == set(SCHEMA.names)


def test_a_record_without_values_is_no_modality(ct_study, random_prognosis):
    empty = run_prognosis(ct_study, record(), random_prognosis)
    without = run_prognosis(ct_study, None, random_prognosis)
    assert empty.logit == without.logit and empty.modalities == ("ct", "radiomics")


def test_nothing_at_all_is_refused(random_prognosis):
    for clinical in (None, ClinicalRecord(), ClinicalRecord(text="Some words.")):
        with pytest.raises(InputError, match="Nothing is given that the model random-prognosis"):
            run_prognosis(None, clinical, random_prognosis)


def test_what_a_model_requires_is_missed_before_any_work(ct_study, tmp_path):
    def never(stage, done):
        raise AssertionError(stage)

    package = write_random_prognosis(tmp_path / "p", required=("clinical",))
    message = "requires what is not given: Clinical data"
    for clinical in (None, ClinicalRecord(), ClinicalRecord(text="Some words.")):
        with pytest.raises(InputError, match=message):
            run_prognosis(ct_study, clinical, package, progress=never)
    # Nor are files read: these do not exist.
    files = StudyFiles(tmp_path / "no.nii.gz", (tmp_path / "neither.nii.gz",))
    with pytest.raises(InputError, match=message):
        run_prognosis_files(PrognosisFiles(files), package, tmp_path / "out", progress=never)
    images = write_random_prognosis(tmp_path / "q", required=("ct", "radiomics"))
    with pytest.raises(InputError, match="requires what is not given: CT, Radiomics"):
        run_prognosis(None, RECORD, images, progress=never)


def test_what_training_did_not_see_is_told_without_values(random_prognosis):
    result = run_prognosis(None, record(age=93, albumin=41), random_prognosis)
    told = next(n for n in result.notices if n.code == "unusual_variables")
    assert "age" in told.text and "93" not in told.text and "albumin" not in told.text
    usual = run_prognosis(None, record(age=60, albumin=41), random_prognosis)
    assert "unusual_variables" not in codes(usual)


def test_radiomics_far_from_training_are_told(ct_study, tmp_path, random_prognosis):
    training = replace(random_prognosis.metadata.training, radiomics_distance=0.001)
    package = write_random_prognosis(tmp_path / "p", ct_study, training=training)
    assert "unusual_radiomics" in codes(run_prognosis(ct_study, None, package))


def test_text_that_the_model_does_not_read_is_told(random_prognosis):
    clinical = replace(record(age=60), text="Cirrhosis since years.")
    result = run_prognosis(None, clinical, random_prognosis)
    told = next(n for n in result.notices if n.code == "unused_modality")
    assert "free text" in told.text
    assert "Cirrhosis" not in repr(result)


def test_radiomics_are_kept(ct_study, random_prognosis, tmp_path, phantom_prognosis):
    options = PrognosisOptions(cache=tmp_path)
    first = run_prognosis(ct_study, RECORD, random_prognosis, options)
    assert len(list(tmp_path.glob("*.json"))) == 1
    second = run_prognosis(ct_study, RECORD, random_prognosis, options)
    assert first.logit == second.logit == phantom_prognosis.logit


def test_progress_rises_and_what_it_raises_ends_the_run(ct_study, random_prognosis):
    heard = []
    run_prognosis(
        ct_study, RECORD, random_prognosis, progress=lambda stage, done: heard.append((stage, done))
    )
    done = [d for _, d in heard]
    assert done == sorted(done) and done[-1] == 1.0
    assert {"region of interest", "radiomics", "network", "contributions", "regions"} <= {
        stage for stage, _ in heard
    }

    class Stop(Exception):
        pass

    def stop(stage, part):
        if stage == "radiomics" and part > 0.3:
            raise Stop

    with pytest.raises(Stop):
        run_prognosis(ct_study, RECORD, random_prognosis, progress=stop)


def test_wrong_options_are_refused_before_any_work(random_prognosis):
    def never(stage, done):
        raise AssertionError(stage)

    for options in (PrognosisOptions(scheme="other"), PrognosisOptions(device="tpu")):
        with pytest.raises(OptionError):
            run_prognosis(None, RECORD, random_prognosis, options, never)


def test_forms_without_attention_answer_without_a_map(ct_study, tmp_path, random_prognosis):
    network = replace(random_prognosis.metadata.network, fusion="concatenation")
    package = write_random_prognosis(tmp_path / "p", network=network)
    result = run_prognosis(ct_study, RECORD, package)
    assert result.ct_case is None and "no_ct_attention" in codes(result)


def test_provenance_names_inputs_settings_and_seed(phantom_prognosis, random_prognosis):
    known = phantom_prognosis.provenance
    assert known["model"]["weights_sha256"] == random_prognosis.weights_sha256
    assert known["options"]["seed"] == 0 and known["calibration"]["temperature"] == 1.4
    assert known["options"]["tolerance"] == 0.005
    (options,) = (
        text for name, text, _ in provenance_lines(phantom_prognosis) if name == "Options"
    )
    assert "at most 32 pairs of orders, fewer within a standard error of 0.005, seed 0" in options
    assert known["radiomics"] == random_prognosis.metadata.radiomics.digest
    clinical = next(e for e in known["inputs"] if e["role"] == "clinical")
    assert len(clinical["sha256"]) == 64 and clinical["path"] == ""
