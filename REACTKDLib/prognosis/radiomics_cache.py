"""Radiomics that were computed before, kept in a folder.

One JSON file a region, named by a digest of everything that the values depend on. Files are written
whole or not at all, so several processes may share a folder; what cannot be read is computed anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic_file import atomic_file
from ..typed_json import FieldError, build
from ..types import Notice, Volume
from .radiomics import Progress, no_progress, radiomics_features
from .radiomics_settings import RadiomicsSettings, feature_names
from .types import RadiomicsFeatures

_LOG = logging.getLogger(__name__)


def cached_features(
    folder: Path | str,
    ct: Volume,
    mask: np.ndarray,
    settings: RadiomicsSettings | None = None,
    progress: Progress = no_progress,
) -> RadiomicsFeatures:
    """As :func:`~.radiomics.radiomics_features`, from ``folder`` where it has them.

    A damaged file is replaced, and the result carries a notice.

    Raises
    ------
    OutputError : the folder cannot be written.
    InputError, OptionError, EnvironmentProblem : as :func:`~.radiomics.radiomics_features`.
    """
    settings = settings or RadiomicsSettings()
    path = Path(folder) / f"{cache_key(ct, mask, settings)}.json"
    damaged = None
    try:
        return _features(json.loads(path.read_text(encoding="utf-8")), settings)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        _LOG.warning("Radiomics in %s are damaged and computed anew: %s", path, error)
        damaged = Notice(
            "radiomics_cache_damaged",
            "info",
            f"Radiomics: the kept values in {path.name} were damaged and have been computed anew.",
        )
    features = radiomics_features(ct, mask, settings, progress)
    with atomic_file(path, overwrite=True) as partial:
        partial.write_text(json.dumps(_fields(features), allow_nan=False), encoding="utf-8")
    if damaged:
        return replace(features, notices=(*features.notices, damaged))
    return features


def cache_key(ct: Volume, mask: np.ndarray, settings: RadiomicsSettings) -> str:
    """SHA-256 of voxels, mask, geometry and settings, hexadecimal."""
    digest = hashlib.sha256(settings.digest.encode())
    grid = ct.geometry
    numbers = (*grid.size, *grid.spacing_mm, *grid.origin_lps, *grid.direction_lps)
    for array in (np.array(numbers, dtype=np.float64), ct.array, np.packbits(mask.astype(bool))):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _fields(features: RadiomicsFeatures) -> dict[str, Any]:
    """What the file holds; null stands for NaN, which JSON does not have."""
    values = [v if math.isfinite(v) else None for v in features.values.values()]
    notices = [{"code": n.code, "severity": n.severity, "text": n.text} for n in features.notices]
    return {
        "settings": features.settings,
        "values": values,
        "notices": notices,
        "check": _check(values),
    }


def _check(values: list[float | None]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _features(fields: Any, settings: RadiomicsSettings) -> RadiomicsFeatures:
    """Reads what :func:`_fields` wrote; FieldError where it is anything else."""
    names = feature_names(settings)
    if not isinstance(fields, dict) or set(fields) != {"settings", "values", "notices", "check"}:
        raise FieldError("other fields than expected")
    values = fields["values"]
    if not isinstance(values, list) or len(values) != len(names):
        raise FieldError(f"not {len(names)} values")
    if fields["check"] != _check(values) or fields["settings"] != settings.digest:
        raise FieldError("its checksum is another")
    if not isinstance(fields["notices"], list):
        raise FieldError("its notices are no list")
    notices = tuple(build(Notice, notice, "notice") for notice in fields["notices"])
    numbers = [math.nan if value is None else float(value) for value in values]
    return RadiomicsFeatures(dict(zip(names, numbers, strict=True)), settings.digest, notices)
