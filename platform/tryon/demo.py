"""`tryon demo`: the whole way on one machine, from nothing to a try-on over HTTP."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.panel import Panel

from tryon import storage
from tryon.client import Client, RefusedError, TryOn
from tryon.codec import decode_image, encode_png
from tryon.console import console, say
from tryon.data.annotate import TRAINING_LAYERS, AnnotateConfig, annotate_job
from tryon.data.simulator.config import EASY_TOPS
from tryon.data.simulator.examples import example_pair
from tryon.data.sources.open import open_source
from tryon.data.synth import SynthConfig, synth_job
from tryon.engines.cluster import ray_session
from tryon.errors import ConfigError, SampleError
from tryon.evaluation.baselines import BASELINES
from tryon.evaluation.figures import METHOD
from tryon.evaluation.run import Evaluation
from tryon.images import resize
from tryon.models.bundle import default_bundle
from tryon.serving.config import ServeConfig
from tryon.serving.run import free_port, running_service
from tryon.show import evaluate_shown, run_job_shown, train_shown

SIZE = (256, 192)
NUM_TRAIN, NUM_TEST = 416, 48
TRAIN_SEED, TEST_SEED = 1, 2
SHOW_SIZE = (1024, 768)
RECIPE = "joint"
STEPS, LEARNING_RATE = 60, 5e-5
HTTP_TIMEOUT_S = 180


def run_demo(out: Path, *, person: Path | None, garment: Path | None, scale: float, port: int) -> None:
    """Simulates, annotates, fine-tunes, evaluates, serves, and tries one garment on over HTTP.

    Training goes on from the bundle that comes with the package, as it would on one's own data. Photos of one's own are
    tried on with that bundle itself: what was learnt here was learnt from drawings.

    Args:
        out: folder for everything; what is there from an earlier run is taken over.
        person: the user's own person photo, or None for a simulated one.
        garment: the user's own garment photo, or None for a simulated one.
        scale: factor on the number of samples and training steps.
        port: of the service; 0 takes a free one.

    Raises:
        TryonError: a photo cannot be used, or something on the way failed for a reason that can be mended.
    """
    start = time.monotonic()
    for name, path in (("PERSON", person), ("GARMENT", garment)):
        if path is not None and not path.is_file():
            raise ConfigError(f"{name}={path}: no such file", code="uri-missing", field=name)
    out.mkdir(parents=True, exist_ok=True)
    console.print(f"The whole way, into [bold]{out}[/bold]. Ctrl-C stops it; a rerun goes on from there.\n")
    bundle = str(out / "bundle")
    with ray_session():
        _make_data(out, scale)
        options = {"steps": max(2, round(STEPS * scale)), "size": SIZE, "learning_rate": LEARNING_RATE}
        train_shown(RECIPE, str(out / "data/train"), bundle, options, default_bundle())
        result = evaluate_shown(str(out / "data/test"), bundle, str(out))
        served = default_bundle() if person or garment else bundle
        seconds = _serve_once(out, served, person, garment, port or free_port())
    _last_screen(out, result, seconds, time.monotonic() - start)


def _make_data(out: Path, scale: float) -> None:
    for name, num, seed in (("train", NUM_TRAIN, TRAIN_SEED), ("test", NUM_TEST, TEST_SEED)):
        raw, annotated = str(out / "data" / f"{name}-raw"), str(out / "data" / name)
        config = SynthConfig(num=max(16, round(num * scale)), size=SIZE, seed=seed, simulator=EASY_TOPS)
        run_job_shown(synth_job(config), raw, "simulate")
        layers = AnnotateConfig(layers=TRAINING_LAYERS)
        run_job_shown(annotate_job(open_source(raw), layers, raw), annotated, "annotate")


def _serve_once(out: Path, bundle: str, person: Path | None, garment: Path | None, port: int) -> float:
    """Starts the service, sends one try-on, writes the pictures; gives the service's own time in seconds."""
    say("serve     starting Ray Serve: ingress -> annotation -> warp -> synthesis -> refinement")
    with (
        running_service(ServeConfig(bundle=bundle), "127.0.0.1", port) as url,
        Client(url, timeout_s=HTTP_TIMEOUT_S) as client,
    ):
        health = client.health()
        say(f"serve     {url} is {health.status}, model loaded: {health.model_loaded}")
        files, answer = _first_answer(client, person, garment)
    storage.write_bytes(str(out / "tryon.png"), answer.image)
    storage.write_bytes(str(out / "overview.png"), encode_png(_side_by_side([*files, answer.image])))
    for notice in answer.notices:
        say(f"note: {notice}")
    width, height = answer.size
    say(f"try-on    POST /api/v1/tryon: {width}x{height} px in {answer.seconds:.1f} s -> {out}/tryon.png")
    return answer.seconds


def _first_answer(client: Client, person: Path | None, garment: Path | None) -> tuple[list[bytes], TryOn]:
    """The user's own photos, or the first simulated pair in which the service finds the person."""
    for index in range(8):
        figure, shirt = (encode_png(photo) for photo in example_pair(index, *SHOW_SIZE))
        files = [person.read_bytes() if person else figure, garment.read_bytes() if garment else shirt]
        try:
            return files, client.tryon(*files)
        except RefusedError as error:
            if person or error.code != "no-person":
                raise
    raise SampleError("the service found no person in 8 simulated photos", code="no-person")


def _side_by_side(files: list[bytes]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    images = [decode_image(data) for data in files]
    height = min(1024, *(image.shape[0] for image in images))
    return np.hstack([resize(i, height, round(i.shape[1] * height / i.shape[0])) for i in images])


def _last_screen(out: Path, result: Evaluation, http_s: float, total_s: float) -> None:
    console.print()
    best = {m: max(v for k, f in result.means.items() if k in BASELINES for v in [f[m]]) for m in ("ssim", "psnr")}
    ours = result.means[METHOD]
    verdict = "ahead of both baselines" if all(ours[m] > best[m] for m in best) else "NOT ahead of both baselines"
    lines = [
        f"[bold]Made[/bold] in {total_s / 60:.1f} minutes",
        f"  {out}/tryon.png        the try-on that came over HTTP ({http_s:.1f} s in the service)",
        f"  {out}/overview.png     person, garment, result side by side",
        f"  {out}/report.html      figures and pictures on {result.samples} samples never trained on",
        f"  {out}/bundle/          the bundle that comes with tryon, fine-tuned on {NUM_TRAIN} samples",
        "",
        f"[bold]How well[/bold]: SSIM {ours['ssim']:.4f}, PSNR {ours['psnr']:.2f} dB: {verdict}",
        "",
        "[bold]What next[/bold]",
        "  make demo PERSON=me.jpg GARMENT=shirt.jpg           your own photos",
        "  .venv/bin/tryon serve                               the service, to stay up",
        "  .venv/bin/tryon data annotate photos/ --out mine    your own data set",
        "  .venv/bin/tryon --help                              everything else",
    ]
    console.print(Panel("\n".join(lines), title="tryon demo", expand=False), highlight=False)
