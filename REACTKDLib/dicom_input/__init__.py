"""DICOM as input: which series, on which grid, with which values; SEG, RTSTRUCT, PET."""
