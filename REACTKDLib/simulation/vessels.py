"""Branching vessels of the liver, in the coordinates of the standard body (RAS mm)."""

from __future__ import annotations

import numpy as np

from .fields import Segment

_SMALLEST_MM = 0.9
_CONFLUENCE = np.array([4.0, 10.0, -36.0])
_HILUM = np.array([25.0, 18.0, -14.0])


def portal_trunk() -> list[Segment]:
    """Splenic vein, superior mesenteric vein and the portal vein up to the hilum."""
    return [
        (np.array([-88.0, -28.0, 10.0]), np.array([-42.0, -6.0, -16.0]), 3.5, 4.0),
        (np.array([-42.0, -6.0, -16.0]), _CONFLUENCE, 4.0, 5.0),
        (np.array([2.0, 8.0, -170.0]), _CONFLUENCE, 5.0, 5.5),
        (_CONFLUENCE, _HILUM, 7.0, 7.0),
    ]


def mesenteric_vessels(rng: np.random.Generator) -> list[Segment]:
    """Small vessels in the fat of the mesentery."""
    segments: list[Segment] = []
    for _ in range(28):
        start = np.array([rng.uniform(-40, 30), rng.uniform(8, 35), rng.uniform(-165, -45)])
        end = start + rng.normal(scale=(22, 14, 14))
        segments.append((start, end, 2.0, 1.2))
        segments.append((end, end + rng.normal(scale=(18, 12, 12)), 1.6, 1.0))
    return segments


def portal_tree(rng: np.random.Generator) -> list[Segment]:
    """The branches of the portal vein from the hilum on."""
    right = np.array([52.0, 8.0, -8.0])
    umbilical = np.array([-2.0, 44.0, 18.0])
    segments = [(_HILUM, right, 6.5, 5.5), (_HILUM, np.array([8.0, 34.0, 6.0]), 5.0, 4.5)]
    segments.append((np.array([8.0, 34.0, 6.0]), umbilical, 4.5, 4.0))
    for start, towards, radius, length in (
        (right, (0.6, 0.7, 0.35), 4.8, 30.0),
        (right, (0.8, -0.5, 0.3), 4.8, 32.0),
        (right, (0.6, 0.2, -0.75), 4.2, 30.0),
        (right, (0.3, -0.5, 0.8), 3.4, 26.0),
        (umbilical, (-0.9, 0.2, 0.2), 3.6, 26.0),
        (umbilical, (0.55, 0.5, 0.5), 3.4, 22.0),
        (umbilical, (0.5, 0.3, -0.6), 3.0, 20.0),
    ):
        segments += _branches(start, np.asarray(towards), radius, length, rng)
    return segments


def hepatic_tree(rng: np.random.Generator) -> list[Segment]:
    """The three hepatic veins, which meet at the inferior vena cava below the dome."""
    root = np.array([26.0, 9.0, 54.0])
    segments: list[Segment] = []
    for first, towards, radius, length in (
        ((58.0, -8.0, 42.0), (0.75, -0.2, -0.6), 5.0, 32.0),
        ((42.0, 34.0, 40.0), (0.35, 0.45, -0.75), 4.8, 30.0),
        ((4.0, 36.0, 44.0), (-0.75, 0.45, -0.45), 4.2, 26.0),
    ):
        start = np.asarray(first)
        segments.append((root, start, radius + 1.2, radius))
        segments += _branches(start, np.asarray(towards), radius, length, rng)
    return segments


def _branches(
    start: np.ndarray, direction: np.ndarray, radius: float, length: float, rng: np.random.Generator
) -> list[Segment]:
    """A bifurcating tree; a child's radius follows Murray's law (cubes add up)."""
    if radius < _SMALLEST_MM or length < 5:
        return []
    direction = direction / np.linalg.norm(direction)
    end = start + length * direction
    share = rng.uniform(0.3, 0.7)
    thick, thin = (
        radius * max(share, 1 - share) ** (1 / 3),
        radius * min(share, 1 - share) ** (1 / 3),
    )
    side = np.cross(direction, rng.normal(size=3))
    side /= np.linalg.norm(side)
    bends = (rng.uniform(0.2, 0.45), -rng.uniform(0.6, 1.0))
    segments = [(start, end, radius, thick)]
    for child, bend in zip((thick, thin), bends, strict=True):
        segments += _branches(
            end, direction + bend * side, child * 0.93, length * rng.uniform(0.68, 0.88), rng
        )
    return segments
