"""Where a prognosis comes from: inputs, model, settings, seed, versions, time."""

from __future__ import annotations

import dataclasses
import datetime
import platform
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..backends import library_versions
from ..types import SourceFile, Study, frozen_mapping
from .inputs import PatientInputs, record_sha256
from .package import PrognosisPackage
from .types import CLINICAL, PrognosisResult

if TYPE_CHECKING:
    from .pipeline import PrognosisOptions

__all__ = ["provenance_of", "with_source"]

_LIBRARIES = ("numpy", "scipy", "SimpleITK", "safetensors", "torch", "PyWavelets", "scikit-image")
_NUMBERS = ("pairs", "exact_up_to", "seed", "tolerance")


def with_source(result: PrognosisResult, source: SourceFile) -> PrognosisResult:
    """The result whose clinical input came from a file."""
    known: dict[str, Any] = dict(result.provenance)
    known["inputs"] = [e for e in known["inputs"] if e["role"] != CLINICAL] + [vars(source)]
    provenance, case = frozen_mapping(known), result.ct_case
    if case is not None:
        case = replace(case, provenance=provenance)
    return replace(result, provenance=provenance, ct_case=case)


def provenance_of(
    study: Study | None,
    inputs: PatientInputs,
    package: PrognosisPackage,
    options: PrognosisOptions,
    device: str,
    seconds: Mapping[str, float],
) -> Mapping[str, object]:
    """What a result was made from and with; ``seconds`` by stage."""
    metadata = package.metadata
    sources = [] if study is None else [vars(source) for source in study.sources]
    if inputs.record.values or inputs.record.text:
        sources.append(vars(SourceFile(CLINICAL, "", record_sha256(inputs.record))))
    series: Mapping[str, Any] = {} if study is None else study.series
    segments = () if study is None else study.segmentation.segments
    return frozen_mapping(
        {
            "reactkd_version": __version__,
            "time_utc": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "model": {
                "name": metadata.name,
                "version": metadata.version,
                "weights_sha256": package.weights_sha256,
                "simulated": metadata.simulated,
            },
            "inputs": sources,
            "series": {n: {**vars(c), "others": list(c.others)} for n, c in series.items()},
            "segments": [{"label": s.label, "name": s.name, "role": s.role} for s in segments],
            "radiomics": None if inputs.radiomics is None else inputs.radiomics.settings,
            "calibration": dataclasses.asdict(metadata.calibration),
            "options": {
                "scheme": options.scheme,
                "device": options.device,
                **{name: getattr(options, name) for name in _NUMBERS},
            },
            "device": device,
            "backend": "torch",
            "python": platform.python_version(),
            "platform": platform.platform(),
            "libraries": library_versions(_LIBRARIES),
            "stage_seconds": dict(seconds),
        }
    )
