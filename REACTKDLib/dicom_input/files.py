"""What a DICOM folder holds: its image series, by SimpleITK and GDCM, enhanced CT by pydicom.

A slice that cannot be read is an error and not left out: at the end of the stack its absence would
make no gap, and the volume would silently be shorter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError
from ..geometry import Geometry
from ..read_image import ITK_HEADERS, itk_reason, quiet_itk, require_exists
from ..types import frozen_mapping
from .codestream import pixel_problem
from .dataset import transfer_syntax_problem
from .frames import ENHANCED_CT, Frame, list_frames
from .guard import has_too_many_items, media_storage_class, overlong_element, transfer_syntax
from .patient import PATIENT_TAGS, patient_of

MAX_FILES = 50_000

_DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
PET_IMAGE = "1.2.840.10008.5.1.4.1.1.128"
#: What is kept of the first file of a series: DICOM keyword, and tag as SimpleITK names it. Nothing
#: that identifies a patient.
_TAGS = {
    "SOPClassUID": "0008|0016",
    "ImageType": "0008|0008",
    "AcquisitionDateTime": "0008|002a",
    "AcquisitionDate": "0008|0022",
    "AcquisitionTime": "0008|0032",
    "SeriesDate": "0008|0021",
    "SeriesTime": "0008|0031",
    "Modality": "0008|0060",
    "SeriesDescription": "0008|103e",
    "DerivationDescription": "0008|2111",
    "ContrastBolusAgent": "0018|0010",
    "ContrastBolusStartTime": "0018|1042",
    "ProtocolName": "0018|1030",
    "SliceThickness": "0018|0050",
    "ConvolutionKernel": "0018|1210",
    "StudyInstanceUID": "0020|000d",
    "SeriesInstanceUID": "0020|000e",
    "SeriesNumber": "0020|0011",
    "FrameOfReferenceUID": "0020|0052",
    "ImagePositionPatient": "0020|0032",
    "ImageOrientationPatient": "0020|0037",
    "RescaleType": "0028|1054",
}
#: The patient's are read besides and not kept: age and sex are made of them.
_READ = _TAGS | PATIENT_TAGS


@dataclass(frozen=True)
class DicomSlice:
    """One slice: its one-slice grid (third spacing 1 mm), pixel type, and when it was acquired.

    ``frames`` : slices in the file, of which a multi-frame file that is no enhanced CT has several
    that are not told apart. ``frame`` : which frame of an enhanced CT the slice is.
    ``acquired`` : DICOM date and time as text, "" if unknown.
    """

    file: Path
    geometry: Geometry
    frames: int
    pixel_id: int
    placed: bool
    acquired: str = ""
    frame: Frame | None = None

    @property
    def name(self) -> str:
        """File name, and frame from 1 where the file has several."""
        return self.file.name if self.frame is None else f"{self.file.name}:{self.frame.number + 1}"


@dataclass(frozen=True, eq=False)
class DicomSeries:
    """The images that share a Series Instance UID. An anonymised file may have an empty one.

    ``tags`` : what the first file says, by DICOM keyword ("SeriesDescription"), "" where nothing.
    ``patient`` : its age and sex, as :func:`~.patient.patient_of`.
    """

    tags: Mapping[str, str]
    slices: tuple[DicomSlice, ...]
    patient: Mapping[str, str] = field(default_factory=dict)

    @property
    def uid(self) -> str:
        """The Series Instance UID."""
        return self.tags["SeriesInstanceUID"]

    @property
    def number(self) -> str:
        """The series number, as text."""
        return self.tags["SeriesNumber"]

    @property
    def description(self) -> str:
        """The series description."""
        return self.tags["SeriesDescription"]

    @property
    def modality(self) -> str:
        """The modality: "CT", "PT"."""
        return self.tags["Modality"]

    @property
    def image_type(self) -> tuple[str, ...]:
        """The values of Image Type, upper case: "ORIGINAL", "PRIMARY", "AXIAL"."""
        return tuple(v.strip() for v in self.tags["ImageType"].upper().split("\\") if v.strip())

    @property
    def files(self) -> tuple[Path, ...]:
        """The image files, in the order of ``slices``, each once."""
        return tuple(dict.fromkeys(s.file for s in self.slices))

    @property
    def count(self) -> int:
        """How many slices there are."""
        return sum(s.frames for s in self.slices)

    @property
    def acquired(self) -> str:
        """Date and time of the earliest slice, "" if unknown."""
        return min((s.acquired for s in self.slices if s.acquired), default="")

    def __str__(self) -> str:
        return (
            f'number {self.number or "-"}, "{self.description}", {self.modality or "no modality"},'
            f" {self.count} slices, UID {self.uid or '(empty)'}"
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


def dicom_files(folder: Path) -> list[Path]:
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


def _read_slices(path: Path) -> tuple[Mapping[str, str], list[DicomSlice]] | None:
    """Tags and slices of one image file; None for a DICOM object that is no image.

    Raises
    ------
    InputError : a CT slice that cannot be read.
    """
    import SimpleITK as sitk

    kind = media_storage_class(path)
    if kind in ENHANCED_CT:
        tags, frames = list_frames(path)
        return {name: tags.get(name, "") for name in _READ}, [
            DicomSlice(path, f.geometry, 1, sitk.sitkInt32, True, f.acquired, f) for f in frames
        ]
    problem = transfer_syntax_problem(transfer_syntax(path))
    if problem is not None and kind == CT_IMAGE:
        raise InputError(f"The DICOM file {path}: {problem}.", "Export it uncompressed.")
    if has_too_many_items(path):
        if kind in (None, CT_IMAGE, PET_IMAGE):
            raise damaged_slice(path, "it has more sequence items than any slice")
        return None  # a large SEG, for instance, which is read elsewhere
    overlong = overlong_element(path)
    if overlong is not None:
        if kind in (None, CT_IMAGE, PET_IMAGE):
            raise damaged_slice(path, f"its element {overlong}")
        return None
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        with ITK_HEADERS:
            reader.ReadImageInformation()
    except RuntimeError as error:
        if kind in (None, CT_IMAGE):
            raise damaged_slice(path, itk_reason(error)) from error
        return None
    tags = {
        name: reader.GetMetaData(key).strip(" \0") if reader.HasMetaDataKey(key) else ""
        for name, key in _READ.items()
    }
    size, spacing = reader.GetSize(), reader.GetSpacing()
    problem = pixel_problem(path, transfer_syntax(path), *size)
    if problem is not None and tags["SOPClassUID"] in ("", CT_IMAGE, PET_IMAGE):
        raise damaged_slice(path, problem)
    geometry = Geometry(
        size=(size[0], size[1], 1),
        spacing_mm=(spacing[0], spacing[1], 1.0),
        origin_lps=reader.GetOrigin(),
        direction_lps=reader.GetDirection(),
    )
    placed = bool(tags["ImagePositionPatient"] and tags["ImageOrientationPatient"])
    acquired = tags["AcquisitionDateTime"] or tags["AcquisitionDate"] + tags["AcquisitionTime"]
    return tags, [DicomSlice(path, geometry, size[2], reader.GetPixelID(), placed, acquired)]


def damaged_slice(path: Path, why: str) -> InputError:
    """The error for a DICOM file whose content cannot be used."""
    return InputError(
        f"The DICOM file {path} is damaged or incomplete: {why}.",
        "Copy or export the series again.",
    )


def list_series(folder: Path) -> tuple[DicomSeries, ...]:
    """The image series in the whole tree below ``folder``, by series number.

    Localisers that share a series with other images are a series of their own here.

    Raises
    ------
    InputError : no such folder, too many files, a CT file that cannot be read.
    EnvironmentProblem : an enhanced CT, and no pydicom.
    """
    folder = Path(folder)
    require_exists(folder, "DICOM folder")
    grouped: dict[tuple[str, bool], list[tuple[Mapping[str, str], list[DicomSlice]]]] = {}
    with quiet_itk():
        for path in dicom_files(folder):
            image = _read_slices(path)
            if image is not None:
                key = (image[0]["SeriesInstanceUID"], "LOCALIZER" in image[0]["ImageType"].upper())
                grouped.setdefault(key, []).append(image)
    series = [_series(images) for images in grouped.values()]
    return tuple(sorted(series, key=lambda s: (s.number.zfill(12), s.uid)))


def _series(images: list[tuple[Mapping[str, str], list[DicomSlice]]]) -> DicomSeries:
    """The series of some image files; birth and study date of its patient end here."""
    first = images[0][0]
    return DicomSeries(
        frozen_mapping({name: first[name] for name in _TAGS}),
        tuple(one for _, slices in images for one in slices),
        frozen_mapping(patient_of(first)),
    )
