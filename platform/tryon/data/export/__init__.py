"""Export: a data set as files in a layout that others read."""

from __future__ import annotations

from tryon.data.export.layout import ExportConfig
from tryon.data.export.run import LAYOUTS, ExportResult, export

__all__ = ["LAYOUTS", "ExportConfig", "ExportResult", "export"]
