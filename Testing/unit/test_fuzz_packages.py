"""Hostile model packages: nothing executes, nothing is read from outside, memory is bounded."""

from __future__ import annotations

import copy
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import damaged, fuzz, value_or_error
from hypothesis import given
from hypothesis import strategies as st
from random_models import altered_copy
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from REACTKDLib.errors import ModelPackageError
from REACTKDLib.infer import load_classifier
from REACTKDLib.model_package import (
    CHECKSUMS,
    METADATA,
    WEIGHTS,
    load_package,
    write_checksums,
)


@pytest.fixture(scope="module")
def good(random_package) -> dict[str, bytes]:
    root = random_package.path
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def load(folder: Path) -> None:
    load_classifier(load_package(folder), "cpu")


def load_signed(folder: Path) -> None:
    """As an attacker would hand it over: with checksums that fit."""
    before = (folder / CHECKSUMS).read_bytes()
    write_checksums(folder)
    try:
        load(folder)
    finally:
        (folder / CHECKSUMS).write_bytes(before)


@given(data=st.data())
@fuzz
def test_any_damage_is_noticed(good, data):
    name = data.draw(st.sampled_from(sorted(good)))
    content = data.draw(damaged(good[name]))
    if content != good[name] and name != CHECKSUMS:
        assert value_or_error(lambda folder: load(folder) or True, good | {name: content}) is None
    else:
        value_or_error(load, good | {name: content})


@given(data=st.data())
@fuzz
def test_damaged_weights_with_right_checksums(good, data):
    content = data.draw(damaged(good[WEIGHTS], header=3000))
    value_or_error(load_signed, good | {WEIGHTS: content})


_ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(), st.text(max_size=9),
    st.sampled_from([[], {}, [[]], "../..", 1e-9, 1e9, 10**9, -1, 0, 10**400]),
    st.recursive(st.integers(), lambda inner: st.lists(inner, max_size=3), max_leaves=6),
)  # fmt: skip


@given(data=st.data())
@fuzz
def test_metadata_with_odd_values(good, data):
    metadata = json.loads(good[METADATA])
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = data.draw(st.sampled_from(list(_places(metadata))))
        if data.draw(st.booleans()):
            holder[key] = data.draw(_ODD)
        else:
            del holder[key]
            break
    value_or_error(load_signed, good | {METADATA: json.dumps(metadata).encode()})


def _places(value: Any) -> Any:
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from _places(value[key])


@given(data=st.data())
@fuzz
def test_weights_of_odd_shapes(good, data):
    tensors = dict(load_tensors(good[WEIGHTS]))
    name = data.draw(st.sampled_from(sorted(tensors)))
    shape = data.draw(st.lists(st.integers(0, 5), max_size=5))
    tensors[name] = np.full(shape, data.draw(st.sampled_from([0.0, np.nan, np.inf, 1e38])),
                            data.draw(st.sampled_from(["f4", "f8", "i8", "u1", "f2"])))  # fmt: skip
    value_or_error(load_signed, good | {WEIGHTS: save_tensors(tensors)})


def refused(folder: Path, said: str) -> None:
    with pytest.raises(ModelPackageError) as caught:
        load(folder)
    assert said in caught.value.message
    assert len(caught.value.message) < 2000


class _Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_pickle_is_not_opened(random_package, tmp_path):
    folder = altered_copy(random_package, tmp_path / "copy")
    (folder / WEIGHTS).write_bytes(pickle.dumps(_Payload(tmp_path / "executed")))
    write_checksums(folder)
    refused(folder, "weights do not fit")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", [WEIGHTS, METADATA, "docs/extra.md"])
def test_a_link_to_outside(random_package, tmp_path, name):
    folder = altered_copy(random_package, tmp_path / "copy")
    outside = tmp_path / "outside"
    outside.write_bytes((folder / name).read_bytes() if (folder / name).exists() else b"secret")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(outside)
    write_checksums(folder)
    refused(folder, "a link to outside the package")


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "C:/x", "a\\b", "a\0b", ""])
def test_names_that_lead_outside(random_package, tmp_path, name):
    folder = altered_copy(random_package, tmp_path / "copy")
    with (folder / CHECKSUMS).open("a") as sums:
        sums.write(f"{'0' * 64}  {name}\n")
    refused(folder, "outside the package")


def test_metadata_nested_without_end(random_package, tmp_path):
    folder = altered_copy(random_package, tmp_path / "copy")
    (folder / METADATA).write_text("[" * 200_000)
    write_checksums(folder)
    refused(folder, "cannot be read")
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    metadata = copy.deepcopy(random_package.metadata)
    metadata["reactkd"]["classes"] = deep
    (folder / METADATA).write_text(json.dumps(metadata))
    write_checksums(folder)
    refused(folder, "classes")


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("grid", "spacing_mm", [1e-6, 1e-6, 1e-6]), ("grid", "margin_mm", 1e9),
        ("grid", "supersampling", 1000), ("network", "init_filters", 10**9),
        ("network", "blocks_down", [10**9, 1, 1]), ("network", "fused_channels", 10**9),
        ("network", "attention_kernel", 10**6), ("regions", "rim_mm", 1e12),
        ("network", "init_filters", 1000),
    ],
)  # fmt: skip
def test_numbers_that_would_fill_the_memory(random_package, tmp_path, section, field, value):
    metadata = copy.deepcopy(random_package.metadata)
    metadata["reactkd"][section][field] = value
    folder = altered_copy(random_package, tmp_path / "copy")
    (folder / METADATA).write_text(json.dumps(metadata))
    write_checksums(folder)
    with pytest.raises(ModelPackageError):
        load(folder)


def test_tensors_that_claim_more_than_the_file(random_package, tmp_path):
    folder = altered_copy(random_package, tmp_path / "copy")
    header = json.dumps(
        {"head.bias": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    ).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    write_checksums(folder)
    refused(folder, "weights do not fit")
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", 2**62) + header)
    write_checksums(folder)
    refused(folder, "weights do not fit")
