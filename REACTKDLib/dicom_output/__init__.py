"""Results as DICOM objects that a PACS takes: Segmentation, Parametric Map, SR and a page."""

from .write import DICOM_FILES, check_dicom_output, check_libraries, write_dicom_output

__all__ = ["DICOM_FILES", "check_dicom_output", "check_libraries", "write_dicom_output"]
