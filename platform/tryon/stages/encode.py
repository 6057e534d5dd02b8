"""Encode: the try-on as an image file."""

from __future__ import annotations

from tryon.codec import encode_file
from tryon.errors import SampleError
from tryon.sample import Row
from tryon.stages.base import RowStage

FORMATS = ("jpeg", "png")
QUALITY = 95


class Encode(RowStage):
    """Writes ``result`` as ``result_file``: JPEG of quality 95, or as ``output_format`` and ``output_quality`` say."""

    name = "encode"
    reads = ("result",)
    optional = ("output_format", "output_quality")
    adds = ("result_file",)

    def process(self, row: Row) -> Row:
        """Adds the file.

        Raises:
            SampleError: the format is neither jpeg nor png (``"format-unknown"``).
        """
        form = row["output_format"] or "jpeg"
        if form not in FORMATS:
            text = f"output_format {form!r} is not one of {', '.join(FORMATS)}"
            raise SampleError(text, code="format-unknown", field="options")
        return {"result_file": encode_file(row["result"], form, int(row["output_quality"] or QUALITY))}
