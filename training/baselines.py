"""Plain baselines of a cohort: a few figures of the lesion and a logistic regression on them.

What a network adds can only be judged against what needs none. In the set ``sts`` the greatest SUV
of the tumour alone tells patients with lung metastases from the others (AUC 0.81 in sample,
``Testing/unit/test_baselines.py``); a student of CT is compared with that, and with the same plain
figures of CT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import log_softmax
from scipy.stats import entropy

from REACTKDLib.errors import InputError
from REACTKDLib.geometry import Geometry, bounding_box, resample_array
from REACTKDLib.model_package import ModelSpec
from REACTKDLib.read import read_study
from REACTKDLib.types import Study

from .manifest import Cohort, study_files

__all__ = [
    "CT_FEATURES",
    "cohort_features",
    "feature_matrix",
    "feature_names",
    "lesion_features",
    "logistic_logits",
    "modalities_of",
]

#: The features of :func:`lesion_features` that need nothing but CT and mask.
CT_FEATURES = ("volume_ml", "ct_mean_hu", "ct_sd_hu", "ct_p10_hu", "ct_p90_hu", "ct_entropy")

#: Edges of the bins of the entropy: 40 bins of 10 HU. Fixed, so that the figure of one patient
#: depends on no other; 10 HU is below the noise of a CT, the range is that of soft tissue.
_ENTROPY_EDGES_HU = np.linspace(-160.0, 240.0, 41)

#: Features that are positive and skewed to the right go into the regression as logarithms.
_LOGARITHMIC = ("volume_ml", "_suv_max", "_suv_mean")


def feature_names(modalities: Sequence[str]) -> tuple[str, ...]:
    """All features of patients who have these modalities."""
    suv = (f"{name}_suv_{kind}" for name in modalities if name != "ct" for kind in ("max", "mean"))
    return (*CT_FEATURES, *suv)


def modalities_of(names: Sequence[str], modalities: Sequence[str]) -> str:
    """The modalities that features are measured on, in the order of ``modalities``, joined by "+";
    the CT, on which the lesion is drawn, is always one."""
    needed = [m for m in modalities if m == "ct" or any(n.startswith(f"{m}_suv_") for n in names)]
    return "+".join(needed)


def lesion_features(study: Study, lesion_role: str = "lesion") -> dict[str, float]:
    """Volume, CT and PET figures of all lesions of a patient together.

    ======================  ====================================================================
    volume_ml               voxels of the segmentation, on its own grid
    ct_mean_hu, ct_sd_hu    mean and population standard deviation
    ct_p10_hu, ct_p90_hu    10th and 90th percentile
    ct_entropy              Shannon entropy, bits, of the shares of 40 bins of 10 HU from -160 to
                            240 HU; what lies beyond counts in the outermost bins
    <modality>_suv_max      greatest value of one PET voxel, for every volume but the CT
    <modality>_suv_mean     mean
    ======================  ====================================================================

    Every image is measured on its own grid: the mask comes to it by nearest neighbour, the image
    itself is not interpolated.

    Parameters
    ----------
    study : CT in HU, PET in SUV.
    lesion_role : role of the segments that are the lesion.

    Raises
    ------
    InputError : no voxel of that role, or none in the CT or in a PET.
    """
    segmentation = study.segmentation
    mask = np.isin(segmentation.labels, segmentation.labels_of(lesion_role))
    box = bounding_box(mask)
    if box is None:
        segments = ", ".join(f"{s.name} (role {s.role})" for s in segmentation.segments) or "none"
        raise InputError(
            f"{study.case_id}: no voxel of the role {lesion_role!r}; the segments are {segments}.",
            f"Segment the {lesion_role}, or say which segment it is.",
        )
    volume_ml = int(mask.sum()) * segmentation.geometry.voxel_volume_ml
    # Cut to the lesion: a whole-body mask costs no more than a small one.
    lesion, grid = mask[box].astype(np.uint8), segmentation.geometry.crop_to(box)
    hu = _values(study, "ct", lesion, grid)
    counts, _ = np.histogram(
        np.clip(hu, _ENTROPY_EDGES_HU[0], _ENTROPY_EDGES_HU[-1]), _ENTROPY_EDGES_HU
    )
    p10, p90 = np.percentile(hu, (10, 90))
    features = {
        "volume_ml": volume_ml,
        "ct_mean_hu": float(hu.mean()),
        "ct_sd_hu": float(hu.std()),
        "ct_p10_hu": float(p10),
        "ct_p90_hu": float(p90),
        "ct_entropy": float(entropy(counts, base=2)),
    }
    for modality in study.volumes:
        if modality != "ct":
            suv = _values(study, modality, lesion, grid)
            features[f"{modality}_suv_max"] = float(suv.max())
            features[f"{modality}_suv_mean"] = float(suv.mean())
    return features


def _values(study: Study, modality: str, lesion: np.ndarray, grid: Geometry) -> np.ndarray:
    """Values (n,) float64 of a volume in the lesion, a mask (k, j, i) on ``grid``."""
    volume = study.volumes[modality]
    inside = resample_array(lesion, grid, volume.geometry, nearest=True) > 0
    if not inside.any():
        raise InputError(
            f"{study.case_id}: no voxel centre of {modality} lies in the lesion.",
            "Check that image and segmentation belong together.",
        )
    return volume.array[inside].astype(np.float64)


def cohort_features(cohort: Cohort, spec: ModelSpec) -> dict[str, dict[str, float]]:
    """Case -> :func:`lesion_features`, in the order of the cohort.

    Files are read as for training, with the roles of ``spec``; the lesion is its lesion role.

    Raises
    ------
    InputError : as :func:`lesion_features` and the reader.
    """
    features: dict[str, dict[str, float]] = {}
    for case in cohort.cases:
        study = read_study(study_files(case), spec.role_rules)
        features[case.case_id] = lesion_features(study, spec.regions.lesion_role)
    return features


def feature_matrix(features: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> np.ndarray:
    """Columns for :func:`logistic_logits`: float64 (patients, names), in the order given.

    ``volume_ml`` and the SUV figures are positive and skewed to the right (tumours of one cohort
    may differ a hundredfold); they enter as natural logarithms, so that a few large ones do not
    decide the fit. The figures of CT enter as they are.

    Raises
    ------
    InputError : a patient lacks a feature, or a figure whose logarithm is needed is not positive.
    """
    columns = []
    for name in names:
        missing = [patient for patient, figures in features.items() if name not in figures]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(features)} patients have no {name}, the first is"
                f" {missing[0]!r}.",
                "Choose features that every patient has.",
            )
        column = np.array([figures[name] for figures in features.values()], dtype=np.float64)
        if name.endswith(_LOGARITHMIC):
            low = column <= 0
            if low.any():
                patient = list(features)[int(low.argmax())]
                raise InputError(
                    f"{name} of {patient!r} is {column[low][0]:g}, not positive.",
                    "Check the unit of the image.",
                )
            column = np.log(column)
        columns.append(column)
    return np.stack(columns, axis=1) if columns else np.zeros((len(features), 0))


def logistic_logits(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    classes: int,
    seed: int = 0,
) -> np.ndarray:
    """Multinomial logistic regression, fitted on ``train``, applied to ``test``.

    Features are standardised by mean and standard deviation of the training rows alone; one that is
    constant there becomes 0. Ridge penalty of scikit-learn, C = 1, classes not reweighted. Two
    classes are fitted with one weight vector, which is the same model.

    Parameters
    ----------
    train : (n, features), for instance of :func:`feature_matrix`.
    labels : (n,) class index of each training row.
    test : (m, features).
    classes : number of classes of the task.
    seed : of the solver. The default solver draws nothing: it changes no figure, and is here so
        that the baseline is called as the methods it is compared with.

    Returns
    -------
    Logits of the test rows, float64 (m, classes): log probabilities.

    Raises
    ------
    InputError : arrays that do not fit, no feature, values that are not finite, a class without
        training rows.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    train, test = np.asarray(train, dtype=np.float64), np.asarray(test, dtype=np.float64)
    labels = np.asarray(labels)
    _check(train, labels, test, classes)
    scaler = StandardScaler().fit(train)
    model = LogisticRegression(C=1.0, class_weight=None, max_iter=1000, random_state=seed)
    model.fit(scaler.transform(train), labels)
    if len(test) == 0:
        return np.zeros((0, classes))
    scores = model.decision_function(scaler.transform(test))
    if classes == 2:  # the score is the difference of two logits
        scores = np.stack([-scores / 2, scores / 2], axis=1)
    logits: np.ndarray = log_softmax(scores, axis=1)
    return logits


def _check(train: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int) -> None:
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1] or not train.shape[1]:
        raise InputError(
            f"Features of shape {train.shape} for training and {test.shape} for the test.",
            "Give (rows, features), the same one or more features for both.",
        )
    if labels.shape != train.shape[:1]:
        raise InputError(
            f"{labels.shape} labels for {len(train)} rows.", "Give one label for each row."
        )
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        raise InputError("A feature is not finite.", "Leave the patient or the feature out.")
    if sorted(np.unique(labels).tolist()) != list(range(classes)):
        raise InputError(
            f"The training rows have the classes {np.unique(labels).tolist()}, the task has"
            f" {classes}, counted from 0.",
            "Give training rows of every class and of no other.",
        )
