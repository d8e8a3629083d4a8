"""Public cohorts by name: a local tree, as downloaded, becomes a manifest. Nothing is fetched.

==============  ========================================================  =======================
name            tree                                                      label
==============  ========================================================  =======================
hcc-tace-seg    DICOM (any layout) and the clinical table                 grade3
idc             DICOM, ``collection/patient/study/modality_series``       by ``label_table``
lits17          ``volume-N.nii``, ``segmentation-N.nii``                  none
msd-task03      ``dataset.json``, ``imagesTr``, ``labelsTr``              none
waw-tace        ``{id}_{phase}_scan.nii.gz``, ``..._tumor_seg.nrrd``      by ``label_table``
react-kd        ``{grade}/{patient}/{FDG,ACT}/{CT,PET}.nii.gz``           grade3
sts             ``labels.csv``, ``{patient}/{ct,pet_suv,gtv_ct}.nii.gz``  lung_metastasis
==============  ========================================================  =======================
"""

from __future__ import annotations

import inspect
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from REACTKDLib.errors import OptionError, OutputError

from ..label_schema import GRADE3, LUNG_METASTASIS, LabelSchema
from ..manifest import read_manifest
from ..manifest_file import ManifestError, write_manifest
from .dicom_trees import GRADE_MERGE, hcc_tace_seg, idc
from .found import Found
from .liver_nifti import lits17, msd_task03, waw_tace
from .pet_ct_nifti import authors, sts

__all__ = ["COHORTS", "GRADE_MERGE", "BuiltManifest", "PublicCohort", "build_manifest"]


@dataclass(frozen=True)
class PublicCohort:
    """How a data set is read, with what labels, and what to cite.

    ``adapter(tree, derived, found, **options)`` fills ``found``; files that it makes go into the
    folder ``derived``. Its docstring and keyword-only parameters are the options.
    """

    adapter: Callable[..., None]
    schema: LabelSchema | None
    source: str

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options, ``exclude`` included."""
        parameters = inspect.signature(self.adapter).parameters.values()
        return ("exclude", *(p.name for p in parameters if p.kind is p.KEYWORD_ONLY))


COHORTS: Mapping[str, PublicCohort] = {
    "hcc-tace-seg": PublicCohort(
        hcc_tace_seg, GRADE3, "Moawad 2021, TCIA HCC-TACE-Seg, CC BY 4.0, 10.7937/TCIA.5FNA-0924"
    ),
    "idc": PublicCohort(idc, None, "the collection's own citation, NCI Imaging Data Commons"),
    "lits17": PublicCohort(lits17, None, "Bilic 2023, LiTS, 10.1016/j.media.2022.102680"),
    "msd-task03": PublicCohort(
        msd_task03, None, "Antonelli 2022, Medical Segmentation Decathlon, CC BY-SA 4.0"
    ),
    "waw-tace": PublicCohort(
        waw_tace, None, "Bartnik 2024, WAW-TACE, CC BY 4.0, 10.5281/zenodo.12741586"
    ),
    "react-kd": PublicCohort(authors, GRADE3, "the tree of the REACT-KD authors, arXiv 2508.02104"),
    "sts": PublicCohort(
        sts,
        LUNG_METASTASIS,
        "Vallieres 2015, TCIA Soft-tissue-Sarcoma, CC BY 3.0, 10.7937/K9/TCIA.2015.7GO2GSKS",
    ),
}


@dataclass(frozen=True)
class BuiltManifest:
    """A manifest that was written and read back. ``left_out`` : who is not in it, and why."""

    path: Path
    cases: int
    left_out: tuple[str, ...]
    source: str


def build_manifest(
    name: str,
    tree: Path | str,
    output: Path | str,
    options: Mapping[str, Any] | None = None,
    schema: LabelSchema | None = None,
) -> BuiltManifest:
    """Write the manifest of a public cohort; the tree is only read.

    Parameters
    ----------
    name : one of :data:`COHORTS`.
    output : manifest to write (.csv or .json). Labelmaps converted from DICOM SEG go into the
        folder ``<name of output>_files`` beside it.
    options : of the adapter; and for each ``exclude``, patients to leave out.
    schema : of the labels, instead of the data set's own.

    Raises
    ------
    OptionError : an unknown name or option, or an excluded patient that the tree does not have.
    OutputError : output or folder exists, or cannot be written.
    ManifestError : lists every problem of tree and manifest; nothing is left behind.
    """
    if name not in COHORTS:
        raise OptionError(f"No public cohort {name!r}.", f"Choose from {', '.join(COHORTS)}.")
    cohort, chosen = COHORTS[name], dict(options or {})
    unknown = sorted(set(chosen) - set(cohort.options))
    if unknown:
        raise OptionError(
            f"The cohort {name} has no options {', '.join(unknown)}.",
            f"It has {', '.join(cohort.options)}.",
        )
    tree, output = Path(tree), Path(output)
    if not tree.is_dir():
        raise OptionError(f"{tree} is no folder.", f"Give the folder of {name} as downloaded.")
    derived = output.with_name(f"{output.stem}_files")
    for path in (output, derived):
        if path.exists():
            raise OutputError(f"{path} exists.", "Give another file, or move that one away.")

    found = Found(chosen.pop("exclude", ()))
    partial = output.with_name(f".{output.stem}.partial-{os.getpid()}{output.suffix}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        cohort.adapter(tree, derived, found, **chosen)
        if found.unmet:
            raise OptionError(
                f"exclude names {', '.join(found.unmet)}, and {tree} has no such patients.",
                "Correct the names.",
            )
        problems = list(found.problems)
        if found.rows:
            write_manifest(found.rows, partial)
            try:
                read_manifest(partial, schema or cohort.schema)
            except ManifestError as error:
                problems += error.problems
        elif not problems:
            problems.append(f"there are no cases as {name} has them")
        if problems:
            raise ManifestError(tree, problems)
        os.replace(partial, output)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        shutil.rmtree(derived, ignore_errors=True)
        if isinstance(error, OSError):
            raise OutputError(
                f"{output} cannot be written: {error}.", "Check disk and rights."
            ) from error
        raise
    return BuiltManifest(output, len(found.rows), tuple(found.left_out), cohort.source)
