"""Losses of REACT-KD and of the methods it is compared with."""

from .cells import cell_loss
from .distillation import Distillation
from .focal import focal_loss
from .registry import DISTILLATIONS, make_distillation
from .views import NetworkView, RegionGraphs, TeacherView, pool_regions

__all__ = [
    "DISTILLATIONS",
    "Distillation",
    "NetworkView",
    "RegionGraphs",
    "TeacherView",
    "cell_loss",
    "focal_loss",
    "make_distillation",
    "pool_regions",
]
