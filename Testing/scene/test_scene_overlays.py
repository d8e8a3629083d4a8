"""A second answer in the views: named while it is there, and nothing of it left afterwards."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from REACTKDSlicer.overlay_nodes import (
    COMPARED,
    WHAT_IF,
    add_overlay,
    entitle,
    original_shown,
    remove_overlay,
    show_in_place,
)
from REACTKDSlicer.volumes import refresh_legends

from REACTKDLib.types import Volume


@pytest.fixture
def weaker(case):
    attention = case.attention
    return dataclasses.replace(
        case, attention=Volume(attention.array * np.float32(0.6), attention.geometry, "weaker")
    )


def test_the_original_looks_as_before_beside_and_after_a_second_answer(viewed, weaker):
    context, views, nodes = viewed
    view = views.slices["Red"]
    view.node.JumpSliceByOffsetting(*nodes.regions.GetSegmentCenterRAS("lesion-1"))
    before = view.image()
    overlay = add_overlay(context, weaker, nodes, WHAT_IF, "What if")
    show_in_place(context, nodes, overlay)
    entitle(context, weaker, overlay, "What if")
    second = view.image()
    with original_shown(context, nodes):
        assert np.array_equal(view.image(), before)  # legend and all
    assert np.array_equal(view.image(), second)
    assert not np.array_equal(second, before)
    remove_overlay(context, nodes, WHAT_IF)
    assert np.array_equal(view.image(), before)


def test_beside_each_other_each_view_has_its_own_legend(viewed, weaker):
    """A class must not stand under the other's name."""
    context, views, nodes = viewed
    for name in ("Red", "Yellow"):
        views.slices[name].node.JumpSliceByOffsetting(
            *nodes.regions.GetSegmentCenterRAS("lesion-1")
        )
    before = views.slices["Red"].image()
    overlay = add_overlay(context, weaker, nodes, COMPARED, "other class")
    composite = context.scene.GetSingletonNode("Yellow", "vtkMRMLSliceCompositeNode")
    composite.SetForegroundVolumeID(overlay.GetID())
    drawn = []
    for title in ("other class", "another name"):
        entitle(context, weaker, overlay, title)
        refresh_legends(context)
        drawn.append(views.slices["Yellow"].image())
        assert np.array_equal(views.slices["Red"].image(), before)
    assert not np.array_equal(*drawn)
