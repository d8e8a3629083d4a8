"""Fixtures of the scene tests: real MRML on slicer-core, and views where EGL is there."""

from __future__ import annotations

import pytest
from REACTKDSlicer.offscreen import offscreen_context, offscreen_views
from REACTKDSlicer.scene_nodes import show_case
from synthetic_case import make_case

from REACTKDLib.errors import EnvironmentProblem


@pytest.fixture(scope="session")
def ct_and_case():
    return make_case()


@pytest.fixture(scope="session")
def ct(ct_and_case):
    return ct_and_case[0]


@pytest.fixture(scope="session")
def case(ct_and_case):
    return ct_and_case[1]


@pytest.fixture
def context():
    return offscreen_context()


@pytest.fixture(scope="module")
def shown(ct, case):
    """(context, nodes) of the case in a scene without views; for tests that only look."""
    context = offscreen_context()
    return context, show_case(context, case, ct)


@pytest.fixture(scope="module")
def viewed(ct, case):
    """(context, views, nodes) of the case in a scene with views."""
    context = offscreen_context()
    try:
        with offscreen_views(context, (300, 300)) as views:
            yield context, views, show_case(context, case, ct)
    except EnvironmentProblem as problem:
        pytest.skip(f"no picture can be drawn here: {problem}")
