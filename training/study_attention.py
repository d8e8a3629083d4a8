"""Where students of two methods find their evidence, beside the truth of simulated cases."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from REACTKDLib.networks.student import Student

from .aggregate import OURS, REFERENCE
from .evaluation.figures import png
from .evaluation.figures_cases import attention_figure
from .evaluation.html_report import ReportFigure
from .forward import AnyStudent
from .measure import evidence, mean_pooled, responsible_cells, views
from .prepare import PreparedCase
from .study import Study, Unit

#: Our method without what the figure is about.
WITHOUT_GRAPH = f"{OURS} without graph"
#: Standard deviations of the region of interest, drawn black and white: prepared CT has no HU.
_WINDOW = (-3.0, 3.0)


def attention_panels(study: Study) -> list[ReportFigure] | str:
    """Evidence maps with and without graph distillation, one test case per class; or why not.

    By students of the first fold, which have not seen the cases, and of the first seed of which
    both are there. Only simulated cases have a truth to compare with.
    """
    if not study.simulated:
        return "only simulated cases have a true region"
    students = _students(study)
    if not students:
        return f"needs the work folder with the trained students of {OURS!r} and {_other(study)!r}"
    spacing = study.spec.grid.spacing_mm[::-1]
    figures = []
    for case, maps, region in _maps(study, students):
        title = study.spec.classes[case.label].title
        figure = attention_figure(
            np.asarray(case.volumes["ct"], dtype=np.float32),
            maps,
            region,
            (spacing[0], spacing[1], spacing[2]),
            "% of all absolute evidence, per cell",
            window=_WINDOW,
            title=f"Evidence for {title}",
            simulated=True,
        )
        caption = (
            f"{case.patient}, {title}, n = 1 simulated case of the first test fold: what each cell"
            " adds to the true class against the others, in per cent of all that speaks for or"
            " against it. Orange speaks for it, purple against it;"
            " the blue outline is the region that shows the grade."
        )
        figures.append(ReportFigure(caption, png(figure)))
    return figures or "no test case has a true region"


def _students(study: Study) -> dict[str, AnyStudent]:
    """Our student and the other one, of the first fold and the same seed; nothing if none is."""
    names = (OURS, _other(study))
    if not all(name in study.settings.methods for name in names):
        return {}
    first, second = (study.settings.methods[name].seeds for name in names)
    for seed in (seed for seed in first if seed in second):
        found = {name: study.trained(Unit(name, seed, 0)) for name in names}
        if all(student is not None for student in found.values()):
            return {name: student.eval() for name, student in found.items() if student is not None}
    return {}


def _other(study: Study) -> str:
    return WITHOUT_GRAPH if WITHOUT_GRAPH in study.settings.methods else REFERENCE


def _maps(
    study: Study, students: dict[str, AnyStudent]
) -> Iterator[tuple[PreparedCase, dict[str, np.ndarray], np.ndarray]]:
    """The first case of every class, each student's map, and the true region, on the voxel grid."""
    part, any_student = study.part(0), next(iter(students.values()))
    references = {
        name: mean_pooled(student, part.selection, study.spec, study.device)
        for name, student in students.items()
    }
    for label in range(len(study.spec.classes)):
        seen = [
            case
            for case in part.test
            if case.label == label
            and case.responsible is not None
            and responsible_cells(any_student, case).any()
        ]
        for case in seen[:1]:
            maps = {}
            for name, student in students.items():
                ((_, view),) = views(student, [case], ("ct",), study.spec, study.device)
                share, _ = evidence(student, view, label, references[name])
                total = float(np.abs(share).sum()) or 1.0  # students differ in their scale
                maps[name] = _on_voxels(student, 100 * share / total, case.roi.shape)
            yield case, maps, np.asarray(case.responsible, dtype=np.float32) > 0.5


def _on_voxels(student: AnyStudent, cells: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Every voxel with the value of its cell: cells are seen as they are, not smoothed."""
    for axis, (step, size) in enumerate(zip(student.total_stride, shape, strict=True)):
        # A convolution's cell is centred on its voxel, a patch begins with it.
        shift = step // 2 if isinstance(student, Student) else 0
        places = np.minimum((np.arange(size) + shift) // step, cells.shape[axis] - 1)
        cells = np.take(cells, places, axis=axis)
    return cells
