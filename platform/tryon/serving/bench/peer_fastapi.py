"""The same pipeline behind FastAPI on uvicorn: ``python -m tryon.serving.bench.peer_fastapi BUNDLE PORT``.

As FastAPI's manual would have it: a plain function, which runs in a thread.
"""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI, File, Response

from tryon.serving.bench.load import PATH
from tryon.serving.bench.pipeline import LocalTryOn


def make_api(bundle: str) -> FastAPI:
    """The app with its one route."""
    api = FastAPI()
    tryon = LocalTryOn(bundle)

    @api.post(PATH)
    def run(person_image: bytes = File(), garment_image: bytes = File()) -> Response:
        return Response(tryon(person_image, garment_image), media_type="image/jpeg")

    return api


if __name__ == "__main__":
    uvicorn.run(make_api(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
