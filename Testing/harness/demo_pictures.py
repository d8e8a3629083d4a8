"""``demo_pictures.py DEMO REAL FOLDER``: the overviews of both demos for the README, as JPEG."""

from __future__ import annotations

import sys
from pathlib import Path

#: Result in a demo's folder -> picture, and its width in pixels.
_DEMO = {"simulated_result": ("simulated.jpg", 1100)}
_REAL = {
    "native_ct_nifti": ("real_native.jpg", 800),
    "contrast_ct_dicom": ("real_contrast.jpg", 800),
}


def main(demo: Path, real: Path, folder: Path) -> None:
    """Write what the two demos have drawn; a demo that was not run is named and left out."""
    from PIL import Image

    for base, names in ((demo, _DEMO), (real, _REAL)):
        for result, (name, width) in names.items():
            overview = base / result / "scene" / "overview.png"
            if not overview.is_file():
                print(f"{overview} is not there: {name} is not renewed.")
                continue
            picture = Image.open(overview).convert("RGB")
            height = round(picture.height * width / picture.width)
            picture.resize((width, height), Image.Resampling.LANCZOS).save(
                folder / name, quality=85
            )


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
