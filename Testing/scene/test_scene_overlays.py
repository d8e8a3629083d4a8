"""A second answer in the views: named while it is there, and nothing of it left afterwards."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from REACTKDSlicer.overlay_nodes import (
    WHAT_IF,
    add_overlay,
    entitle,
    original_shown,
    remove_overlay,
    show_in_place,
)

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
