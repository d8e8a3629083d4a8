"""Damage for property tests: what a broken disk, a bad network or an attacker makes of a file.

The property is always the same: a reader gives a value or an error of REACTKDLib, never another
exception, and leaves nothing behind. ``REACTKD_FUZZ_EXAMPLES`` sets the examples per test (25 by
default, the same ones each time; with more, new ones).
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from REACTKDLib.errors import ReactKDError

EXAMPLES = int(os.environ.get("REACTKD_FUZZ_EXAMPLES", "25"))

#: For every property test: no deadline (the machine may be busy), no stored examples.
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="REACTKD_FUZZ_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)

_NUMBERS = [
    *(struct.pack(f"{order}{kind}", value)
      for order in "<>"
      for kind, values in (
          ("h", (0, -1, 1, 32767, -32768)),
          ("i", (0, -1, 2**31 - 1, -(2**31), 2**24)),
          ("q", (-1, 2**63 - 1, 2**40)),
          ("f", (0.0, -1.0, float("nan"), float("inf"), 1e30, 1e-30)),
          ("d", (float("nan"), -1.0, 1e300)),
      )
      for value in values),
    *(text.encode() for text in (
        "-1", "0", "1e400", "nan", "inf", "99999999999", "999999999 999999999 999999999", "../x",
        "\0", "\n", "\\\\\\\\", "1.2.840.10008.1.2.4.50", "\xff\xfe")),
]  # fmt: skip


@st.composite
def damaged(draw: Callable[..., Any], content: bytes, header: int | None = None) -> bytes:
    """``content`` cut off, with bytes changed, numbers overwritten, or parts doubled or missing.

    ``header`` : most damage falls into so many bytes at the beginning.
    """
    places = st.integers(0, max(len(content) - 1, 0))
    if header is not None:
        places = st.one_of(st.integers(0, min(header, len(content)) - 1), places)
    changed = bytearray(content)
    for kind in draw(st.lists(st.sampled_from("bbbnnncdx"), min_size=1, max_size=6)):
        at = min(draw(places), len(changed))
        if kind == "b":
            changed[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif kind == "n":
            number = draw(st.sampled_from(_NUMBERS))
            changed[at : at + len(number)] = number
        elif kind == "c":
            del changed[at:]
        elif kind == "d":
            part = bytes(changed[at : at + draw(st.integers(1, 64))])
            changed[at:at] = part
        else:
            del changed[at : at + draw(st.integers(1, 64))]
    return bytes(changed)


def value_or_error(call: Callable[[Path], Any], files: dict[str, bytes]) -> Any:
    """What ``call`` makes of a folder with ``files``; None for an error of REACTKDLib.

    Fails for any other exception, for an error without text, and if the folder changed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "in"
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        before = sorted(folder.rglob("*"))
        try:
            value = call(folder)
        except ReactKDError as error:
            assert error.message.strip()
            value = None
        assert sorted(folder.rglob("*")) == before
        assert [p.name for p in Path(name).iterdir()] == ["in"]
        for path, content in files.items():
            assert (folder / path).read_bytes() == content
        return value
