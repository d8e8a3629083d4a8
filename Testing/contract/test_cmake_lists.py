"""A file that the CMake lists leave out is absent from the installed extension."""

from __future__ import annotations

import pytest
from cmake_lists import ROOMS, files_on_disk, listed_files


@pytest.mark.parametrize("room", ROOMS)
def test_lists_equal_the_files_on_disk(room):
    listed, on_disk = set(listed_files(room)), set(files_on_disk(room))
    assert on_disk, f"{room} is empty"
    assert not on_disk - listed, f"add to {room}/CMakeLists.txt: {sorted(on_disk - listed)}"
    assert not listed - on_disk, f"remove from {room}/CMakeLists.txt: {sorted(listed - on_disk)}"


@pytest.mark.parametrize("room", ROOMS)
def test_lists_are_sorted_and_without_repetition(room):
    listed = listed_files(room)
    assert listed == sorted(set(listed))
