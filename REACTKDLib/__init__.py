"""REACTKD without Slicer: from a CT and a segmentation to region attention and a region graph."""

__version__ = "0.1.0"
