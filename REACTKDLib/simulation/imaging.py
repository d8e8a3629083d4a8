"""From shapes to images: CT in HU and PET in SUV, on any grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..geometry import Geometry, Vector
from .anatomy import Anatomy
from .enhancement import sign_weights, tissue_hu, tissue_suv
from .fields import Field, bounds_ras, smooth_noise
from .lesions import LesionFields
from .parameters import KERNELS, CaseParameters, Kernel, centred_geometry

_AIR_HU = -1000.0
#: PET voxel size and the scanner's point spread (full width at half maximum), mm.
PET_SPACING_MM: Vector = (4.0, 4.0, 4.0)
PET_FWHM_MM = 5.5

#: Tissue of each structure in painting order; a later structure covers an earlier one.
_TRUNK = (("body", "body"), ("wall", "wall"), ("cavity", "cavity"), ("paraspinal", "muscle"))
_BEFORE_LIVER = (
    ("lungs", "lungs"), ("heart", "muscle"), ("heart_chambers", "ivc"),
    ("bowel", "bowel"), ("colon", "colon"), ("colon_gas", "gas"), ("mesentery", "portal_vein"),
    ("pancreas", "pancreas"), ("stomach", "stomach"), ("stomach_content", "stomach_content"),
    ("stomach_gas", "gas"), ("oesophagus", "oesophagus"), ("spleen", "spleen"),
    ("kidney_right", "kidney"), ("kidney_right_medulla", "kidney_medulla"),
    ("kidney_right_sinus", "sinus"), ("kidney_left", "kidney"),
    ("kidney_left_medulla", "kidney_medulla"), ("kidney_left_sinus", "sinus"),
)  # fmt: skip
_AFTER_LIVER = (
    ("gallbladder", "gallbladder"), ("aorta", "aorta"), ("ivc", "ivc"),
    ("portal_trunk", "portal_vein"), ("portal_vein", "portal_vein"),
    ("hepatic_veins", "hepatic_veins"),
)  # fmt: skip
#: Where PET tells tissues apart differently from CT.
_PET_TISSUE = {"muscle": "heart", "ivc": "heart_chambers", "portal_vein": "blood"}
_PET_BLOOD = ("aorta", "ivc", "portal_trunk", "portal_vein")


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything in the patient: anatomy, lesions, cysts and the liver's texture."""

    parameters: CaseParameters
    anatomy: Anatomy
    lesions: tuple[LesionFields, ...]
    cysts: tuple[Field, ...]
    texture: Field


def liver_texture(parameters: CaseParameters, liver: Field, rng: np.random.Generator) -> Field:
    """Parenchymal texture over the liver's box, HU, zero mean.

    Cirrhosis makes it nodular (about 1 cm), steatosis patchy (several cm).
    """
    low, high = bounds_ras(liver.geometry)
    nodular = smooth_noise(low - 8, high + 8, 11.0, rng)
    patchy = smooth_noise(low - 8, high + 8, 45.0, rng).over(nodular.geometry)
    values = (2 + 6 * parameters.cirrhosis) * nodular.values + (
        2 + 3 * parameters.steatosis
    ) * patchy
    return replace(nodular, values=values.astype(np.float32))


class Canvas:
    """An image under construction. Later tissue covers earlier tissue, with blurred edges."""

    def __init__(self, grid: Geometry, background: float, edge_mm: float) -> None:
        self.grid = grid
        self.edge_mm = np.float32(edge_mm)
        self.image = np.full(grid.array_shape, background, np.float32)

    def paint(
        self, shape: Field, value: float | Field, gain: float = 1.0, base: float = 0.0
    ) -> None:
        """Cover ``shape`` with a value, or with ``base + gain * field``."""
        drawn = shape.on(self.grid)
        if drawn is None:
            return
        box, part, distance = drawn
        tissue: np.ndarray | np.float32
        if isinstance(value, Field):
            tissue = np.float32(base) + np.float32(gain) * value.over(part)
        else:
            tissue = np.float32(value)
        cover = np.clip(0.5 - distance / self.edge_mm, 0, 1)
        self.image[box] += cover * (tissue - self.image[box])

    def blend(self, weight: Field, value: float, strength: float = 1.0) -> None:
        """Move the image towards ``value`` by ``strength`` times a weight in [0, 1]."""
        drawn = weight.on(self.grid)
        if drawn is not None:
            box, _, share = drawn
            self.image[box] += np.float32(strength) * share * (np.float32(value) - self.image[box])

    def add(self, weight: Field, gain: float) -> None:
        """Add ``gain * weight``."""
        drawn = weight.on(self.grid)
        if drawn is not None:
            box, _, share = drawn
            self.image[box] += np.float32(gain) * share


def render_ct(scene: Scene, grid: Geometry, noise_rng: np.random.Generator | None) -> np.ndarray:
    """CT of the scene at the voxel centres of ``grid``, int16 HU (k, j, i).

    ``noise_rng`` None renders without noise.
    """
    p, anatomy = scene.parameters, scene.anatomy
    kernel = KERNELS[p.scanner.kernel]
    hu, weights = tissue_hu(p), sign_weights(p.delay_s)
    canvas = Canvas(grid, _AIR_HU, kernel.psf_mm)
    body = anatomy.fixed["body"]
    canvas.paint(body, hu["skin"])
    canvas.paint(_shrunk(body, 2.0), hu["body"])
    for name, tissue in _TRUNK[1:]:
        canvas.paint(anatomy.fixed[name], hu[tissue])
    _paint(canvas, anatomy.organs, _BEFORE_LIVER, hu)
    canvas.paint(anatomy.liver, scene.texture, base=hu["liver"])
    _paint(canvas, anatomy.organs, _AFTER_LIVER, hu)
    for cyst in scene.cysts:
        canvas.paint(cyst, hu["cyst"])
    paint_lesions_ct(canvas, scene.lesions, hu, weights)
    canvas.paint(anatomy.fixed["column"], hu["column"])
    canvas.paint(anatomy.fixed["canal"], hu["canal"])
    for name, marrow in (("vertebrae", "marrow"), ("ribs", "rib_marrow")):
        bone = anatomy.fixed[name]
        canvas.paint(bone, hu["bone"])
        canvas.paint(_shrunk(bone, 2.2), hu[marrow])
    image = canvas.image
    if noise_rng is not None:
        image = image + _noise(grid, kernel, p, anatomy.fixed["body"], noise_rng)
    return np.clip(np.rint(image), -1024, 3071).astype(np.int16)


def _shrunk(shape: Field, depth_mm: float) -> Field:
    """What lies deeper than ``depth_mm`` in ``shape``."""
    return replace(shape, values=shape.values + np.float32(depth_mm))


def _paint(
    canvas: Canvas,
    shapes: Mapping[str, Field],
    order: Iterable[tuple[str, str]],
    value: Mapping[str, float],
) -> None:
    for name, tissue in order:
        if name in shapes:
            canvas.paint(shapes[name], value[tissue])


def paint_lesions_ct(
    canvas: Canvas,
    lesions: Sequence[LesionFields],
    hu: Mapping[str, float],
    weights: Mapping[str, float],
) -> None:
    """Paint lesions and what they do to the liver next to them onto a CT of the liver.

    ``hu`` holds ``liver`` and ``necrosis``; ``weights`` are those of :func:`sign_weights`.
    """
    for lesion in lesions:
        gain = lesion.parameters.signs.peritumoral_hu * weights["peritumoral"]
        canvas.add(lesion.peritumoral, gain)
    for lesion in lesions:
        _paint_lesion_ct(canvas, lesion, hu, weights)


def _paint_lesion_ct(
    canvas: Canvas, lesion: LesionFields, hu: Mapping[str, float], weights: Mapping[str, float]
) -> None:
    signs = lesion.parameters.signs
    contrast = signs.arterial_hu * weights["arterial"] - signs.washout_hu * weights["washout"]
    canvas.paint(lesion.shape, lesion.mosaic, gain=signs.mosaic_hu, base=hu["liver"] + contrast)
    canvas.blend(lesion.necrosis, hu["necrosis"])
    if signs.capsule_hu > 0:
        canvas.blend(lesion.capsule, hu["liver"] + signs.capsule_hu, weights["capsule"])


def _noise(
    grid: Geometry, kernel: Kernel, p: CaseParameters, body: Field, rng: np.random.Generator
) -> np.ndarray:
    """Correlated CT noise, stronger in the middle of a large body.

    The noise is correlated in plane only (axes i and j), as reconstruction is slice by slice.
    """
    from scipy.ndimage import gaussian_filter

    white = rng.standard_normal(grid.array_shape, dtype=np.float32)
    sigma = [0.0, *(kernel.noise_blur_mm / s for s in (grid.spacing_mm[1], grid.spacing_mm[0]))]
    grain = gaussian_filter(white, sigma)
    grain -= np.float32(kernel.edge_boost) * gaussian_filter(grain, [3 * s for s in sigma])
    grain *= np.float32(p.scanner.noise_hu / max(float(grain.std()), 1e-6))
    # Photons are lost with depth: half the noise at the skin, more in the middle of a big patient.
    depth = np.clip(-body.over(grid), 0, None)
    girth = np.float32(p.body_size * (0.75 + p.fat_mm / 72))
    grain *= np.clip(np.float32(0.5) + depth / np.float32(140), 0.4, 1.3) * girth
    return grain


def pet_geometry(grid: Geometry) -> Geometry:
    """PET grid, axes along the patient's, that covers the CT's field of view."""
    corners = grid.corners_lps()
    size = np.ceil(np.ptp(corners, axis=0) / PET_SPACING_MM).astype(int)
    middle = np.asarray(grid.size) / 2 - 0.5
    centre = grid.ras_from_ijk(middle)
    return centred_geometry(
        size, PET_SPACING_MM, (float(centre[0]), float(centre[1]), float(centre[2]))
    )


def render_pet(
    scene: Scene, tracer: str, grid: Geometry, noise_rng: np.random.Generator | None
) -> np.ndarray:
    """PET of the scene at the voxel centres of ``grid``, float32 SUV (k, j, i).

    Organs lie lower than on CT by the tracer's breathing offset. Uptake is blurred by the
    scanner's point spread; counting noise is Poisson.
    """
    from scipy.ndimage import gaussian_filter

    p, anatomy = scene.parameters, scene.anatomy
    suv = tissue_suv(p, tracer)
    offset = dict(p.breathing_offset_mm)[tracer]
    canvas = Canvas(grid, 0.0, PET_SPACING_MM[0])
    for name, _ in _TRUNK:
        canvas.paint(anatomy.fixed[name], suv[name])
    moved = _moved(grid, offset)
    breathing = Canvas(moved, 0.0, PET_SPACING_MM[0])
    breathing.image = canvas.image
    before = [(name, _PET_TISSUE.get(tissue, tissue)) for name, tissue in _BEFORE_LIVER]
    _paint(breathing, anatomy.organs, before, suv)
    breathing.paint(anatomy.liver, scene.texture, gain=0.01 * suv["liver"], base=suv["liver"])
    breathing.paint(anatomy.organs["gallbladder"], suv["gallbladder"])
    for name in _PET_BLOOD:
        breathing.paint(anatomy.organs[name], suv["blood"])
    for cyst in scene.cysts:
        breathing.paint(cyst, 0.2 * suv["liver"])
    for lesion in scene.lesions:
        breathing.paint(lesion.shape, suv["liver"] * lesion.parameters.ratio(tracer))
        breathing.blend(lesion.necrosis, 0.35 * suv["liver"])
    for name in ("column", "canal", "vertebrae", "ribs"):
        canvas.paint(anatomy.fixed[name], suv[name])
    sigma = [PET_FWHM_MM / 2.355 / s for s in reversed(grid.spacing_mm)]
    image = gaussian_filter(canvas.image, sigma)
    if noise_rng is not None:
        counts = noise_rng.poisson(np.maximum(image, 0.02) * p.pet_counts) / p.pet_counts
        image = gaussian_filter(counts.astype(np.float32), [0.5 * s for s in sigma])
    return np.maximum(image, 0).astype(np.float32)


def _moved(grid: Geometry, offset_mm: float) -> Geometry:
    """``grid`` for organs that lie ``offset_mm`` lower: each voxel looks that much higher."""
    x, y, z = grid.origin_lps
    return replace(grid, origin_lps=(x, y, z + offset_mm))
