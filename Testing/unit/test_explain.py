"""Shares that add up, and a map that agrees with MONAI's and with formulas."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from monai.visualize import CAM, GradCAM
from phantoms import CT_GRID, PHANTOM, voxel_centres_ras
from random_models import random_student, specification
from safetensors.numpy import load_file
from scipy.ndimage import map_coordinates
from scipy.special import softmax
from torch import nn

from REACTKDLib.errors import OptionError
from REACTKDLib.explain import Explanation, explain
from REACTKDLib.geometry import Geometry
from REACTKDLib.infer import Prediction, load_classifier, predict
from REACTKDLib.model_package import ModelPackage, modality_set_key, spec_from_section
from REACTKDLib.normalise import ModelInput, feature_geometry, normalise, occupancy, to_feature_grid
from REACTKDLib.pipeline import RunOptions, run_case
from REACTKDLib.regions import Regions, make_regions
from REACTKDLib.roi import Roi, locate_roi
from REACTKDLib.types import CaseResult, Study, Volume

CLASSES = ("well", "moderate", "poor")
MODALITY_SETS = [("ct",), ("ct", "pet_fdg"), ("ct", "pet_acetate", "pet_fdg")]


def with_modalities(study: Study, names: tuple[str, ...]) -> Study:
    return dataclasses.replace(study, volumes={n: study.volumes[n] for n in names})


def contrast(values: np.ndarray, target: str) -> np.ndarray:
    """Target minus the mean of the others, along the first axis."""
    row = CLASSES.index(target)
    return values[row] - np.delete(values, row, axis=0).mean(axis=0)


@pytest.fixture(
    scope="module",
    params=itertools.product(MODALITY_SETS, ("anatomical", "paper"), CLASSES),
    ids=lambda p: f"{len(p[0])}-{p[1]}-{p[2]}",
)
def case(request, phantom_study, random_package) -> CaseResult:
    names, scheme, target = request.param
    study = with_modalities(phantom_study, names)
    return run_case(study, random_package, RunOptions(target, scheme))


def test_shares_outside_and_bias_are_each_classs_logit(case):
    for name in CLASSES:
        parts = [share.logit_shares[name] for share in case.shares]
        total = sum(parts) + case.outside_logit_shares[name] + case.bias[name]
        assert total == pytest.approx(case.logits[name], abs=1e-4)
        assert np.ptp(parts) > 1e-3  # not all alike


def test_contrast_shares_are_the_difference_from_the_reference_case(case):
    logits = np.array([case.logits[name] for name in CLASSES])
    assert case.contrast == pytest.approx(contrast(logits, case.target), abs=1e-4)
    total = sum(share.share for share in case.shares) + case.outside_share
    assert total == pytest.approx(case.contrast - case.reference_contrast, abs=1e-4)
    assert sum(abs(share.share) for share in case.shares) > 0.1


def test_the_reference_contrast_is_that_of_the_packages_mean_features(case, random_package):
    tensors = load_file(random_package.weights_path)
    mean = tensors[f"statistics/{modality_set_key(case.modalities)}/mean"]
    logits = tensors["head.weight"].astype(float) @ mean + tensors["head.bias"]
    assert case.reference_contrast == pytest.approx(contrast(logits, case.target), abs=1e-4)


def test_contrasts_of_all_classes_cancel_and_follow_from_the_raw_shares(case):
    """The mean over the targets of the contrast is zero, so the raw shares fix the contrast shares
    up to the reference, which a region shares in by its part of the region of interest."""
    for share in case.shares:
        raw = contrast(np.array([share.logit_shares[name] for name in CLASSES]), case.target)
        part = (raw - share.share) / (case.reference_contrast - contrast_of_bias(case))
        assert 0 < part < 1


def contrast_of_bias(case: CaseResult) -> float:
    return float(contrast(np.array([case.bias[name] for name in CLASSES]), case.target))


def test_share_per_ml_is_the_share_over_the_volume(case):
    for region, share in zip(case.regions, case.shares, strict=True):
        assert share.region_id == region.id
        assert share.share_per_ml == pytest.approx(share.share / region.volume_ml)


def test_probabilities_are_the_tempered_softmax(case, random_package):
    logits = np.array([case.logits[name] for name in CLASSES])
    temperature = random_package.statistics[modality_set_key(case.modalities)].temperature
    assert temperature != 1.0
    expected = softmax(logits / temperature)
    assert [case.probabilities[name] for name in CLASSES] == pytest.approx(expected, abs=1e-6)


def integral(attention: Volume) -> tuple[float, float]:
    """Integrals of the map and of its magnitude over the CT, logit units."""
    litres = attention.geometry.voxel_volume_ml / 1000
    array = attention.array.astype(float)
    return float(array.sum() * litres), float(np.abs(array).sum() * litres)


def test_the_map_adds_up_to_nearly_the_total_share(case):
    """Not exactly: between cells of 20 mm the map is interpolated."""
    total, magnitude = integral(case.attention)
    assert total == pytest.approx(case.contrast - case.reference_contrast, abs=0.1 * magnitude)


@pytest.mark.parametrize("target", CLASSES)
def test_at_the_shipped_resolution_the_map_adds_up_closely(target, ct_study, shipped_package):
    case = run_case(ct_study, shipped_package, RunOptions(target))
    total, magnitude = integral(case.attention)
    assert total == pytest.approx(case.contrast - case.reference_contrast, abs=0.03 * magnitude)


def test_the_map_is_on_the_ct_and_0_far_from_the_organ(case, ct_study):
    assert case.attention.geometry.same_grid(CT_GRID)
    assert case.attention.array.dtype == np.float32
    far = PHANTOM.liver.level(voxel_centres_ras(CT_GRID)) > 1.6
    assert far.sum() > 1000
    assert not case.attention.array[far].any()
    assert np.abs(case.attention.array).max() > 0


def test_the_graph_has_every_pair_with_cosine_distance_and_contact(case, random_package):
    ids = [region.id for region in case.regions]
    graph = case.graph
    assert list(graph.node_ids) == ids
    assert [(e.source, e.target) for e in graph.edges] == list(itertools.combinations(ids, 2))
    tensors = load_file(random_package.weights_path)
    mean = tensors[f"statistics/{modality_set_key(case.modalities)}/mean"]
    centred = dict(zip(ids, graph.features - mean, strict=True))
    centre = {region.id: np.array(region.centroid_ras) for region in case.regions}
    for edge in graph.edges:
        a, b = centred[edge.source], centred[edge.target]
        cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        assert edge.similarity == pytest.approx(cosine, abs=1e-4)
        apart = np.linalg.norm(centre[edge.source] - centre[edge.target])
        assert edge.distance_mm == pytest.approx(apart)
        assert edge.contact_area_mm2 >= 0


def test_a_lesion_touches_its_own_rim_and_no_other(phantom_case):
    contact = {
        frozenset((e.source, e.target)): e.contact_area_mm2 for e in phantom_case.graph.edges
    }
    assert contact[frozenset(("lesion-1", "rim-1"))] > 1000
    assert contact[frozenset(("lesion-1", "rim-2"))] == 0
    assert contact[frozenset(("lesion-1", "lesion-2"))] == 0


def test_the_target_is_the_most_probable_class_unless_chosen(phantom_case):
    assert phantom_case.target == max(
        phantom_case.probabilities, key=phantom_case.probabilities.get
    )
    assert phantom_case.predicted.name == phantom_case.target


def test_an_unknown_target_is_refused_with_the_classes(ct_study, random_package):
    with pytest.raises(OptionError, match="'benign'") as caught:
        run_case(ct_study, random_package, RunOptions(target="benign"))
    assert "well, moderate, poor" in caught.value.advice


# Hand-made predictions on the phantom's real geometry.


@dataclasses.dataclass(frozen=True)
class Stage:
    """What explain() needs beside a prediction."""

    study: Study
    roi: Roi
    regions: Regions
    model_input: ModelInput
    prediction: Prediction
    package: ModelPackage

    def explain(self, target: str = "well", **changes: object) -> Explanation:
        prediction = dataclasses.replace(self.prediction, **changes)
        ct = self.study.ct.geometry
        return explain(
            prediction, self.model_input, self.regions, self.roi, ct, self.package, target
        )

    def cells_filled_by(self, region_id: str) -> np.ndarray:
        """Cells that lie entirely in a region, (k, j, i)."""
        label = next(r.label for r in self.regions.regions if r.id == region_id)
        grid = self.model_input.geometry
        fractions = occupancy(self.regions.labels, self.regions.geometry, grid, 2, 256)
        cells = to_feature_grid(fractions[label].astype(float), self.package.network.total_stride)
        return cells > 0.999


@pytest.fixture(scope="module")
def stage(random_package) -> Stage:
    """A large lesion, so that some cells lie in it entirely."""
    lesion = dataclasses.replace(PHANTOM.lesions[0], radii_mm=(36.0, 32.0, 30.0))
    study = dataclasses.replace(PHANTOM, lesions=(lesion, PHANTOM.lesions[1])).study(CT_GRID)
    roi = locate_roi(study, random_package)
    model_input = normalise(study, roi, random_package)
    return Stage(
        study,
        roi,
        make_regions(roi, study.ct, random_package),
        model_input,
        predict(load_classifier(random_package, "cpu"), model_input),
        random_package,
    )


def test_a_feature_planted_in_one_lesion_gives_that_lesion_the_share(stage):
    hot = stage.cells_filled_by("lesion-1")
    assert hot.sum() >= 2
    prediction = stage.prediction
    features = np.broadcast_to(
        prediction.reference[:, None, None, None], prediction.features.shape
    ).copy()
    features[2, hot] += 0.4
    weight = contrast(prediction.head_weight, "well")[2]
    expected = 0.4 * weight * prediction.weights[hot].sum()
    result = stage.explain(features=features)
    shares = {share.region_id: share.share for share in result.shares}
    assert shares.pop("lesion-1") == pytest.approx(expected, rel=1e-3)
    assert np.allclose([*shares.values(), result.outside_share], 0, atol=1e-3 * abs(expected))


def test_the_map_peaks_where_the_feature_was_planted(stage):
    hot = stage.cells_filled_by("lesion-1")
    prediction = stage.prediction
    features = np.broadcast_to(
        prediction.reference[:, None, None, None], prediction.features.shape
    ).copy()
    sign = np.sign(contrast(prediction.head_weight, "well")[2])
    features[2, hot] += 0.4 * sign
    attention = stage.explain(features=features).attention
    peak = voxel_centres_ras(CT_GRID)[
        np.unravel_index(attention.array.argmax(), CT_GRID.array_shape)
    ]
    lesion = dataclasses.replace(PHANTOM.lesions[0], radii_mm=(36.0, 32.0, 30.0))
    assert lesion.level(peak) < 1
    positive = np.maximum(attention.array, 0).ravel()
    middle = np.average(voxel_centres_ras(CT_GRID).reshape(-1, 3), axis=0, weights=positive)
    truth = voxel_centres_ras(prediction.geometry)[hot].mean(axis=0)
    assert np.allclose(middle, truth, atol=1.5)


def test_constant_features_share_by_the_weight_of_the_pooling(stage):
    """Where all cells are alike, a litre far from lesions has one share, a litre of lesion more."""
    features = np.full(stage.prediction.features.shape, 0.9)
    shares = stage.explain(features=features).shares
    far = [s.share_per_ml for s in shares if s.region_id.startswith("parenchyma")]
    assert np.ptp(far) / abs(np.mean(far)) < 0.05
    weights = stage.model_input.weights
    more = weights.max() / np.median(weights[weights > 0])
    lesion = next(s for s in shares if s.region_id == "lesion-1")
    assert more > 1.5
    # Feature cells are larger than the border of the lesion's surroundings.
    assert lesion.share_per_ml / np.mean(far) == pytest.approx(more, rel=0.15)


def test_attention_of_a_region_is_the_mean_of_the_map_over_it(stage):
    flat = stage.explain(attention=np.full(stage.prediction.attention.shape, 0.37))
    assert [share.attention for share in flat.shares] == pytest.approx([0.37] * len(flat.shares))
    planted = np.zeros(stage.prediction.attention.shape)
    planted[stage.cells_filled_by("lesion-1")] = 1.0
    shares = {s.region_id: s.attention for s in stage.explain(attention=planted).shares}
    assert shares.pop("lesion-1") > 0.05
    assert max(shares.values()) < 1e-3


def test_the_map_is_the_interpolated_density_inside_the_region_of_interest(stage):
    """Against scipy's interpolation, at the CT's voxel centres of an oblique grid."""
    prediction = stage.prediction
    weight = contrast(prediction.head_weight, "well")
    density = np.tensordot(
        weight, prediction.features - prediction.reference[:, None, None, None], 1
    )

    def at_points(array: np.ndarray, geometry: Geometry, ras: np.ndarray) -> np.ndarray:
        kji = np.moveaxis(geometry.ijk_from_ras(ras)[..., ::-1], -1, 0)
        return map_coordinates(array, kji, order=1, mode="nearest")

    # Weights sum to 1 over the model's voxels, so a litre holds this much of them.
    grid = stage.model_input.geometry
    litres = grid.voxel_volume_ml / 1000
    voxels = at_points(density, prediction.geometry, voxel_centres_ras(grid))
    voxels = voxels * stage.model_input.weights / litres
    expected = at_points(voxels, grid, voxel_centres_ras(CT_GRID))
    ijk = grid.ijk_from_ras(voxel_centres_ras(CT_GRID))
    inside = np.all((ijk > 0) & (ijk < np.array(grid.size) - 1), axis=-1)
    assert (np.abs(expected[inside]) > 0).sum() > 3000
    result = stage.explain().attention.array
    assert np.allclose(result[inside], expected[inside], atol=1e-4 * np.abs(result).max())


# MONAI's class activation maps, with plain pooling over the whole grid.


class _Classifier(nn.Module):
    """The student as MONAI's maps need it: the fused features as a module of their own."""

    def __init__(self, contrast_target: int | None = None) -> None:
        super().__init__()
        spec = spec_from_section(specification())
        self.student = random_student(spec, 5)
        self.fused = nn.Identity()
        self.fc = self.student.head
        self.contrast_target = contrast_target

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fused = self.fused(self.student.fuse({"ct": x})[0])
        logits = self.fc(fused.mean(dim=(2, 3, 4)))
        if self.contrast_target is None:
            return logits
        others = [c for c in range(logits.shape[1]) if c != self.contrast_target]
        return (logits[:, self.contrast_target] - logits[:, others].mean(dim=1))[:, None]


def keep(x: object) -> object:
    """MONAI's post-processing left out."""
    return x


def explained(
    module: _Classifier, image: torch.Tensor, target: str, reference: float
) -> Explanation:
    """REACTKD's explanation of the same pass, with a CT whose voxels are the feature cells."""
    spec = spec_from_section(specification())
    with torch.inference_mode():
        output = module.student({"ct": image})
    grid = Geometry(
        (image.shape[4], image.shape[3], image.shape[2]), (5.0, 5.0, 7.0), (3.0, 1.0, 2.0)
    )
    cells = feature_geometry(grid, spec.network.total_stride)
    ones = np.ones(grid.array_shape, np.float32)
    count = np.prod(cells.size)
    prediction = Prediction(
        logits=output.logits[0].numpy(),
        probabilities=softmax(output.logits[0].numpy()),
        features=output.features[0].numpy(),
        attention=output.attention[0, 0].numpy(),
        weights=np.full(cells.array_shape, 1 / count),
        geometry=cells,
        head_weight=module.fc.weight.detach().double().numpy(),
        head_bias=module.fc.bias.detach().double().numpy(),
        reference=np.full(spec.network.fused_channels, reference),
        distance=0.0,
        modalities=("ct",),
        device="cpu",
        backend="torch",
    )
    labels = np.ones(cells.array_shape, np.uint8)
    roi = Roi((0, 0, 0), cells, labels, grid)
    regions = make_regions(roi, Volume(labels.astype(np.int16), cells), spec, "paper")
    model_input = ModelInput({"ct": ones}, ones, ones / ones.size, grid)
    return explain(prediction, model_input, regions, roi, cells, spec, target)


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.randn((1, 1, 16, 24, 28), generator=torch.Generator().manual_seed(6))


@pytest.mark.parametrize("target", CLASSES)
def test_the_map_is_monais_cam_of_the_contrast_less_the_reference(image, target):
    module = _Classifier().eval()
    cam = CAM(module, "fused", "student.head", upsampler=lambda _: keep, postprocessing=keep)
    with torch.no_grad():
        maps = np.stack([cam(image, class_idx=[c])[0, 0].numpy() for c in range(3)])
    result = explained(module, image, target, reference=0.45)
    expected = contrast(maps, target) - result.reference_contrast
    ours = result.attention.array
    scale = (ours.ravel() @ expected.ravel()) / (expected.ravel() @ expected.ravel())
    assert scale > 0
    assert np.allclose(ours, scale * expected, atol=1e-4 * np.abs(ours).max())


@pytest.mark.parametrize("target", CLASSES)
def test_the_positive_part_of_the_map_is_monais_grad_cam(image, target):
    module = _Classifier(CLASSES.index(target)).eval()
    grad_cam = GradCAM(module, "fused", upsampler=lambda _: keep, postprocessing=keep)
    expected = grad_cam(image, class_idx=[0])[0, 0].detach().numpy()
    ours = np.maximum(explained(module, image, target, reference=0.0).attention.array, 0)
    assert (expected > 0).any()
    scale = (ours.ravel() @ expected.ravel()) / (expected.ravel() @ expected.ravel())
    assert scale > 0
    assert np.allclose(ours, scale * expected, atol=1e-4 * ours.max())
