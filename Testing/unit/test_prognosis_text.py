"""Models of prognosis that read clinical text through a language model."""

from __future__ import annotations

from dataclasses import replace

import pytest
from random_prognosis import SCHEMA, random_metadata, record, write_random_prognosis
from test_clinical_text import make_bert

from REACTKDLib.errors import InputError, ModelPackageError
from REACTKDLib.prognosis.clinical_text import TextEncoder
from REACTKDLib.prognosis.model import text_encoder, text_inputs, text_of
from REACTKDLib.prognosis.package import TextEncoderSpec
from REACTKDLib.prognosis.pipeline import PrognosisOptions, run_prognosis
from REACTKDLib.prognosis.types import ClinicalRecord

TEXT = "age : 61 years ; sex : female"


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory):
    return make_bert(tmp_path_factory.mktemp("bert"))


def package(folder, encoder_folder, variables=True, **changes):
    spec = TextEncoderSpec(str(encoder_folder), TextEncoder(encoder_folder).digest(), **changes)
    plain = random_metadata()
    network = replace(plain.network, modalities=("clinical",), families=(), text_hidden=16)
    if not variables:
        network = replace(network, variables=())
    return write_random_prognosis(folder, network=network, text=spec)


def names(result):
    return [one.name for one in result.contributions]


def test_free_text_is_a_part_of_its_own(tmp_path, encoder_folder):
    model = package(tmp_path / "p", encoder_folder)
    without = run_prognosis(None, record(age=61), model)
    result = run_prognosis(None, replace(record(age=61), text=TEXT), model)
    assert names(without) == ["age"] and names(result) == ["age", "text"]
    text = result.contributions[1]
    assert text.title == "Clinical text" and text.value == "" and abs(text.logit) > 1e-4
    assert result.base_logit == pytest.approx(without.base_logit, abs=1e-5)
    assert "female" not in repr(result)
    alone = run_prognosis(None, ClinicalRecord(text=TEXT), model)
    assert names(alone) == ["text"] and alone.modalities == ("clinical",)


def test_a_record_may_be_read_as_a_sentence(tmp_path, encoder_folder):
    model = package(tmp_path / "p", encoder_folder, variables=False, reads="record")
    result = run_prognosis(None, record(age=61, sex="female"), model)
    assert names(result) == ["text"] and not result.missing
    assert not [n for n in result.notices if n.code == "unused_modality"]
    assert run_prognosis(None, record(age=61), model).logit != result.logit
    with pytest.raises(InputError, match="Nothing is given"):
        run_prognosis(None, record(), model)


def test_values_that_a_text_model_does_not_read_are_told(tmp_path, encoder_folder):
    model = package(tmp_path / "p", encoder_folder, variables=False)
    result = run_prognosis(None, replace(record(age=61), text=TEXT), model)
    told = next(n for n in result.notices if n.code == "unused_modality")
    assert "clinical values" in told.text and names(result) == ["text"]


def test_another_language_model_is_refused(tmp_path, encoder_folder):
    (tmp_path / "other").mkdir()
    other = make_bert(tmp_path / "other", seed=1)
    model = package(tmp_path / "p", encoder_folder)
    given = replace(record(age=61), text=TEXT)
    options = PrognosisOptions(text_model=str(other))
    with pytest.raises(ModelPackageError, match="is not the one that the model was trained with"):
        run_prognosis(None, given, model, options)
    same = PrognosisOptions(text_model=str(encoder_folder))
    assert run_prognosis(None, given, model, same).logit == run_prognosis(None, given, model).logit


def test_text_that_is_cut_off_is_told(tmp_path, encoder_folder):
    model = package(tmp_path / "p", encoder_folder)
    result = run_prognosis(None, ClinicalRecord(text=f"{TEXT} ; " * 10), model)
    assert "text_truncated" in [n.code for n in result.notices]


def test_the_published_form_reads_the_encoders_first_token(encoder_folder):
    tokens = text_encoder(str(encoder_folder), "", "cpu").encode(TEXT)
    _, mask = text_inputs(tokens, "corrected")
    assert not mask[0, 0] and mask[0, 1]
    _, every = text_inputs(tokens, "faithful")
    assert every.all()


def test_what_is_read_of_a_record():
    given = replace(record(age=61), text=" Ascites. ")
    assert text_of(TextEncoderSpec("x"), SCHEMA, given) == "Ascites."
    assert text_of(TextEncoderSpec("x", reads="record"), SCHEMA, given) == "Age: 61 years. Ascites."
    said = text_of(TextEncoderSpec("x", reads="record", missing="say"), SCHEMA, given)
    assert "Sex: missing" in said
