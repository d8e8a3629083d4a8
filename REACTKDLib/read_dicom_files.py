"""What a DICOM folder holds: its image series, by SimpleITK and GDCM.

A slice that cannot be read is an error and not left out: at the end of the stack its absence would
make no gap, and the volume would silently be shorter.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .errors import InputError
from .geometry import Geometry
from .read_image import itk_reason, quiet_itk, require_exists

MAX_FILES = 50_000

_DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")
_CT_IMAGE_STORAGE = b"1.2.840.10008.5.1.4.1.1.2"
_TAGS = {
    "uid": "0020|000e",
    "number": "0020|0011",
    "description": "0008|103e",
    "modality": "0008|0060",
    "image_type": "0008|0008",
    "position": "0020|0032",
    "orientation": "0020|0037",
}


@dataclass(frozen=True)
class DicomSlice:
    """One image file: its one-slice grid (third spacing 1 mm), frames and pixel type."""

    file: Path
    geometry: Geometry
    frames: int
    pixel_id: int
    placed: bool


@dataclass(frozen=True)
class DicomSeries:
    """The images that share a Series Instance UID. An anonymised file may have an empty one."""

    uid: str
    number: str
    description: str
    modality: str
    image_type: str
    slices: tuple[DicomSlice, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """The image files, in the order of ``slices``."""
        return tuple(s.file for s in self.slices)

    @property
    def is_ct_volume(self) -> bool:
        """A CT series of more than one slice that is no localiser."""
        return (
            self.modality == "CT"
            and sum(s.frames for s in self.slices) > 1
            and "LOCALIZER" not in self.image_type.upper()
        )

    def __str__(self) -> str:
        return (
            f'number {self.number or "-"}, "{self.description}", {self.modality or "no modality"},'
            f" {sum(s.frames for s in self.slices)} slices, UID {self.uid or '(empty)'}"
        )


def _is_dicom(path: Path) -> bool:
    """True for a DICOM part 10 file, by its preamble.

    Raises
    ------
    InputError : an empty file, or one named as DICOM without the preamble. Left out, it could be
        the last slice, whose absence makes no gap.
    """
    with open(path, "rb") as file:
        head = file.read(132)
    if head[128:] == b"DICM":
        return True
    if not head or path.suffix.lower() in _DICOM_SUFFIXES:
        raise damaged_slice(path, "it is empty or has no DICOM preamble")
    return False


def _dicom_files(folder: Path) -> list[Path]:
    """All DICOM part 10 files in the tree below ``folder``, hidden files and DICOMDIR left out."""
    files = []
    for number, path in enumerate(sorted(p for p in folder.rglob("*") if p.is_file())):
        if number >= MAX_FILES:
            raise InputError(
                f"{folder} has more than {MAX_FILES} files.", "Give the folder of one study."
            )
        if path.name.startswith(".") or path.name.upper() == "DICOMDIR":
            continue
        try:
            if _is_dicom(path):
                files.append(path)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error}).", "Check its rights.") from error
    return files


def _media_storage_class(path: Path) -> bytes | None:
    """The SOP class in the file meta header (it comes first, uncompressed); None if cut off."""
    with open(path, "rb") as file:
        head = file.read(1024)
    at = head.find(b"\x02\x00\x02\x00UI") + 8
    length = int.from_bytes(head[at - 2 : at], "little")
    value = head[at : at + length]
    complete = at > 8 and 0 < length == len(value)
    return value.rstrip(b"\0") if complete else None


def _read_slice(path: Path) -> tuple[dict[str, str], DicomSlice] | None:
    """Tags and grid of one image file; None for a DICOM object that is no image.

    Raises
    ------
    InputError : a CT slice that cannot be read.
    """
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        if _media_storage_class(path) in (None, _CT_IMAGE_STORAGE):
            raise damaged_slice(path, itk_reason(error)) from error
        return None
    tags = {
        name: reader.GetMetaData(key).strip(" \0") if reader.HasMetaDataKey(key) else ""
        for name, key in _TAGS.items()
    }
    size, spacing = reader.GetSize(), reader.GetSpacing()
    geometry = Geometry(
        size=(size[0], size[1], 1),
        spacing_mm=(spacing[0], spacing[1], 1.0),
        origin_lps=reader.GetOrigin(),
        direction_lps=reader.GetDirection(),
    )
    placed = bool(tags["position"] and tags["orientation"])
    return tags, DicomSlice(path, geometry, size[2], reader.GetPixelID(), placed)


def damaged_slice(path: Path, why: str) -> InputError:
    """The error for a DICOM file whose content cannot be used."""
    return InputError(
        f"The DICOM file {path} is damaged or incomplete: {why}.",
        "Copy or export the series again.",
    )


def list_series(folder: Path) -> tuple[DicomSeries, ...]:
    """The image series in the whole tree below ``folder``, by series number.

    Raises
    ------
    InputError : no such folder, too many files, a CT file that cannot be read.
    """
    folder = Path(folder)
    require_exists(folder, "DICOM folder")
    grouped: dict[str, list[tuple[dict[str, str], DicomSlice]]] = {}
    with quiet_itk():
        for path in _dicom_files(folder):
            image = _read_slice(path)
            if image is not None:
                grouped.setdefault(image[0]["uid"], []).append(image)
    series = [
        DicomSeries(
            uid=uid,
            number=images[0][0]["number"],
            description=images[0][0]["description"],
            modality=images[0][0]["modality"],
            image_type=images[0][0]["image_type"],
            slices=tuple(image for _, image in images),
        )
        for uid, images in grouped.items()
    ]
    return tuple(sorted(series, key=lambda s: (s.number.zfill(12), s.uid)))
