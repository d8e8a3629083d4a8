"""Damaged NIfTI, NRRD and MetaImage files: a value or a named error."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from fuzzing import damaged, fuzz, value_or_error
from hypothesis import given
from hypothesis import strategies as st
from images import LIVER_RULES, ct_array, label_array, write_image, write_seg_nrrd

from REACTKDLib.read import read_ct
from REACTKDLib.read_segmentation import read_segmentation
from REACTKDLib.types import Volume

FORMATS = ["ct.nii", "ct.nii.gz", "ct.nrrd", "packed.nrrd", "ct.mha", "packed.mha"]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """One good file of each kind, and a .seg.nrrd."""
    folder = tmp_path_factory.mktemp("good")
    for name in FORMATS:
        write_image(folder / name, ct_array(), compress=name.startswith("packed"))
    segments = [{"Name": "Liver", "LabelValue": 1, "Layer": 0},
                {"Name": "Tumor", "LabelValue": 2, "Layer": 0}]  # fmt: skip
    write_seg_nrrd(folder / "labels.seg.nrrd", [label_array()], segments)
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def sound(volume: Volume | None) -> None:
    """What is read is finite and on a grid."""
    if volume is not None:
        assert volume.array.shape == volume.geometry.array_shape
        assert np.isfinite(volume.array).all()
        assert 0 < volume.geometry.voxel_volume_ml < 20


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
@fuzz
def test_a_damaged_image(name, files, data):
    content = data.draw(damaged(files[name], header=700))
    sound(value_or_error(lambda folder: read_ct(folder / name), {name: content}))


@given(data=st.data())
@fuzz
def test_a_damaged_header_well_compressed(files, data):
    """Damage that the compression's checksum does not catch."""
    plain = data.draw(damaged(files["ct.nii"], header=400))
    content = gzip.compress(plain, 1)
    sound(value_or_error(lambda folder: read_ct(folder / "ct.nii.gz"), {"ct.nii.gz": content}))


@given(data=st.data())
@fuzz
def test_a_damaged_segmentation(files, data):
    content = data.draw(damaged(files["labels.seg.nrrd"], header=1500))

    def read(folder: Path):
        return read_segmentation([folder / "a.seg.nrrd"], LIVER_RULES)

    segmentation = value_or_error(read, {"a.seg.nrrd": content})
    if segmentation is not None:
        assert set(np.unique(segmentation.labels)) <= {0, *(s.label for s in segmentation.segments)}


@given(
    header=st.dictionaries(
        st.sampled_from(["type", "dimension", "sizes", "encoding", "endian", "space", "kinds",
                         "space directions", "space origin", "data file", "byte skip"]),
        st.one_of(st.text(max_size=30), st.sampled_from([
            "short", "3", "14 11 8", "raw", "gzip", "little", "left-posterior-superior",
            "(1,0,0) (0,1,0) (0,0,1)", "(0,0,0)", "(nan,0,0) (0,1,0) (0,0,1)", "-3", "0 0 0",
            "99999 99999 99999", "../../../../etc/passwd", "/etc/passwd", "LIST", "%d 1 2 1",
            "none none none", "domain domain domain"])),
    )
)  # fmt: skip
@fuzz
def test_any_nrrd_header(header):
    text = "NRRD0004\n" + "".join(f"{key}: {value}\n" for key, value in header.items()) + "\n"
    content = text.encode("utf-8", "surrogatepass") + bytes(14 * 11 * 8 * 2)
    sound(value_or_error(lambda folder: read_ct(folder / "x.nrrd"), {"x.nrrd": content}))


@given(
    fields=st.dictionaries(
        st.sampled_from(["NDims", "DimSize", "ElementType", "ElementSpacing", "TransformMatrix",
                         "Offset", "HeaderSize", "CompressedData", "BinaryData",
                         "ElementNumberOfChannels", "CompressedDataSize", "ObjectType"]),
        st.one_of(st.text(max_size=20), st.sampled_from([
            "3", "14 11 8", "MET_SHORT", "1 1 1", "1 0 0 0 1 0 0 0 1", "0 0 0", "-1", "True",
            "99999 99999 99999", "nan nan nan", "Image", "0", "100000000000"])),
    ),
    file=st.sampled_from(["LOCAL", "LIST", "../x.raw", "/etc/passwd", "", "x.mha", "s%d 1 9 1"]),
)  # fmt: skip
@fuzz
def test_any_metaimage_header(fields, file):
    text = "".join(f"{key} = {value}\n" for key, value in fields.items())
    content = (text + f"ElementDataFile = {file}\n").encode("utf-8", "surrogatepass")
    content += bytes(14 * 11 * 8 * 2)
    sound(value_or_error(lambda folder: read_ct(folder / "x.mha"), {"x.mha": content}))
