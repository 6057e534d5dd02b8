"""The same pipeline behind LitServe, with one worker: ``python -m tryon.serving.bench.peer_litserve BUNDLE PORT``."""

from __future__ import annotations

import sys

import litserve
from fastapi import Response

from tryon.serving.bench.load import PATH
from tryon.serving.bench.pipeline import LocalTryOn


class Api(litserve.LitAPI):  # type: ignore[misc]
    """At the top of the module, since LitServe sends it to another process."""

    def __init__(self, bundle: str) -> None:
        super().__init__(api_path=PATH)
        self._bundle = bundle

    def setup(self, device: str) -> None:
        """Loads the networks, in the worker."""
        self.tryon = LocalTryOn(self._bundle)

    # An annotation would be taken for the model of a JSON body.
    def decode_request(self, request) -> tuple[bytes, bytes]:  # type: ignore[no-untyped-def]  # noqa: ANN001
        """The two files of a form."""
        return request["person_image"].file.read(), request["garment_image"].file.read()

    def predict(self, x: tuple[bytes, bytes]) -> bytes:
        """The JPEG file."""
        return self.tryon(*x)

    def encode_response(self, output: bytes) -> Response:
        """The file itself."""
        return Response(output, media_type="image/jpeg")


if __name__ == "__main__":
    server = litserve.LitServer(Api(sys.argv[1]), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), log_level="error", generate_client_file=False)
