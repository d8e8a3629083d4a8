"""Stand-in for Slicer's module ``SampleData``: what other modules register, and a user's click.

As documented: ``uris``, ``fileNames``, ``nodeNames`` and ``checksums`` are one string or lists of
one length; a source with a ``customDownloader`` is handed to that on a click; registering a source
twice keeps one.
"""

from __future__ import annotations

import os
import types
from collections.abc import Callable
from typing import Any

from .errors import NotModelledError

#: Name of a sample -> what makes its nodes in the place of a download; for tests.
downloads: dict[str, Callable[[], list[Any]]] = {}


class SampleDataSource:
    """One sample: its button's name and thumbnail, and where it comes from."""

    def __init__(
        self,
        sampleName: str | None = None,
        sampleDescription: str | None = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        checksums: Any = None,
        loadFiles: Any = None,
        customDownloader: Callable[[Any], Any] | None = None,
        thumbnailFileName: str | None = None,
        loadFileType: Any = None,
        loadFileProperties: dict[str, Any] | None = None,
    ) -> None:
        self.sampleName, self.sampleDescription = sampleName, sampleDescription or sampleName
        self.uris, self.fileNames = _as_list(uris), _as_list(fileNames)
        self.nodeNames = _as_list(nodeNames, len(self.uris))
        self.checksums = _as_list(checksums, len(self.uris))
        self.customDownloader, self.thumbnailFileName = customDownloader, thumbnailFileName
        lengths = {
            len(given) for given in (self.uris, self.fileNames, self.nodeNames, self.checksums)
        }
        if len(lengths) != 1:
            raise ValueError("All fields of sample data source must have the same length")


class SampleDataLogic:
    """The register of samples, in ``slicer.modules.sampleDataSources`` by category."""

    @staticmethod
    def registerCustomSampleDataSource(
        category: str = "Custom",
        sampleName: str | None = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        customDownloader: Callable[[Any], Any] | None = None,
        thumbnailFileName: str | None = None,
        loadFileType: Any = "VolumeFile",
        loadFiles: Any = None,
        loadFileProperties: dict[str, Any] | None = None,
        checksums: Any = None,
    ) -> None:
        source = SampleDataSource(
            sampleName=sampleName,
            uris=uris,
            fileNames=fileNames,
            nodeNames=nodeNames,
            checksums=checksums,
            customDownloader=customDownloader,
            thumbnailFileName=thumbnailFileName,
        )
        if thumbnailFileName is not None:
            assert os.path.exists(thumbnailFileName), f"no thumbnail {thumbnailFileName}"
        sources = _register().setdefault(category, [])
        if sampleName not in [known.sampleName for known in sources]:
            sources.append(source)

    @staticmethod
    def sampleDataSourcesByCategory(category: str | None = None) -> Any:
        return _register() if category is None else _register().get(category, [])

    def sourceForSampleName(self, sampleName: str) -> SampleDataSource | None:
        every = (source for sources in _register().values() for source in sources)
        return next((source for source in every if source.sampleName == sampleName), None)

    def downloadSample(self, sampleName: str) -> Any:
        """The first node of a sample; what tests put into ``downloads`` stands for the network."""
        source = self.sourceForSampleName(sampleName)
        if source is None:
            raise IndexError(sampleName)
        return self.downloadFromSource(source)[0]

    def downloadFromSource(self, source: SampleDataSource, maximumAttemptsCount: int = 3) -> Any:
        if source.uris:
            if source.sampleName not in downloads:
                raise NotModelledError("downloading")
            return downloads[source.sampleName]()
        return []


def click(sample_name: str) -> Any:
    """What Sample Data does when a sample's button is pressed; for tests."""
    source = SampleDataLogic().sourceForSampleName(sample_name)
    assert source is not None, f"there is no sample {sample_name!r}"
    if source.customDownloader is not None:
        return source.customDownloader(source)
    return SampleDataLogic().downloadFromSource(source)


def sample_data_module() -> types.ModuleType:
    """The module as ``import SampleData`` gives it."""
    module = types.ModuleType("SampleData")
    vars(module).update(SampleDataLogic=SampleDataLogic, SampleDataSource=SampleDataSource)
    return module


def _register() -> dict[str, list[SampleDataSource]]:
    import slicer

    if not hasattr(slicer.modules, "sampleDataSources"):
        slicer.modules.sampleDataSources = {}
    register: dict[str, list[SampleDataSource]] = slicer.modules.sampleDataSources
    return register


def _as_list(value: Any, length: int = 0) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return list(value)
    return [value] * length if value is None else [value]
