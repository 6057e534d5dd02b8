"""The web page at `/`: its files, and photos to try with. It asks no other host."""

from __future__ import annotations

import asyncio
import json
from functools import lru_cache
from importlib.resources import files

from fastapi import APIRouter, HTTPException, Response

from tryon.codec import encode_jpeg
from tryon.data.look.overlays import LIMBS
from tryon.data.simulator.examples import example_pair
from tryon.sample import PALETTE

NUM_EXAMPLES = 3
EXAMPLE_SIZE = (512, 384)  # (height, width) px
MEDIA = {"page.css": "text/css", "page.js": "text/javascript"}
KEPT = {"cache-control": "public, max-age=3600"}


def make_router() -> APIRouter:
    """Routes of the page; none of them needs a key."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def page() -> Response:
        return Response(_read("index.html"), media_type="text/html")

    @router.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in MEDIA:
            raise HTTPException(404, "Not Found")
        return Response(_read(name), media_type=MEDIA[name], headers={"cache-control": "no-cache"})

    @router.get("/static/examples/{slot}-{index}.jpg")
    async def example(slot: str, index: int) -> Response:
        if slot not in ("person", "garment") or not 0 <= index < NUM_EXAMPLES:
            raise HTTPException(404, "Not Found")
        photos = await asyncio.to_thread(_example, index)
        return Response(photos[slot == "garment"], media_type="image/jpeg", headers=KEPT)

    return router


@lru_cache
def _read(name: str) -> str:
    text = files(__name__).joinpath(name).read_text(encoding="utf-8")
    told = {"PALETTE": PALETTE.tolist(), "BONES": [[int(a), int(b)] for a, b in LIMBS]}
    for key, value in told.items():
        text = text.replace(f'"__{key}__"', json.dumps(value))
    return text


@lru_cache
def _example(index: int) -> tuple[bytes, bytes]:
    person, garment = example_pair(index, *EXAMPLE_SIZE)
    return encode_jpeg(person), encode_jpeg(garment)
