"""The same pipeline behind other servers: ``python -m tryon.serving.bench.peers fastapi|litserve BUNDLE PORT``.

Each is written as its own manual would have it: FastAPI with a plain function in a thread, LitServe with one worker.
"""

from __future__ import annotations

import sys
from typing import Any

from tryon.serving.bench.load import PATH
from tryon.serving.bench.pipeline import LocalTryOn


def serve_fastapi(bundle: str, port: int) -> None:
    """FastAPI on uvicorn."""
    import uvicorn
    from fastapi import FastAPI, File, Response

    api = FastAPI()
    tryon = LocalTryOn(bundle)

    def run(person_image: bytes = File(), garment_image: bytes = File()) -> Response:
        return Response(tryon(person_image, garment_image), media_type="image/jpeg")

    # Annotations are strings here, which FastAPI resolves in this module, where the classes of this function are not.
    run.__annotations__ = {"person_image": bytes, "garment_image": bytes, "return": Response}
    api.post(PATH)(run)
    uvicorn.run(api, host="127.0.0.1", port=port, log_level="error")


def serve_litserve(bundle: str, port: int) -> None:
    """LitServe."""
    import litserve
    from fastapi import Response

    class Api(litserve.LitAPI):  # type: ignore[misc]
        def setup(self, device: str) -> None:
            self.tryon = LocalTryOn(bundle)

        def decode_request(self, request: Any) -> tuple[bytes, bytes]:
            return request["person_image"].file.read(), request["garment_image"].file.read()

        def predict(self, x: tuple[bytes, bytes]) -> bytes:
            return self.tryon(*x)

        def encode_response(self, output: bytes) -> Response:
            return Response(output, media_type="image/jpeg")

    server = litserve.LitServer(Api(api_path=PATH), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=port, log_level="error", generate_client_file=False)


if __name__ == "__main__":
    kind, bundle, port = sys.argv[1:]
    {"fastapi": serve_fastapi, "litserve": serve_litserve}[kind](bundle, int(port))
