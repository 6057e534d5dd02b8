"""The command line: one verb a task. Heavy imports happen inside the verbs, so that help answers at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn, Optional

import typer
from typer.exceptions import TyperException

from tryon import cli_look  # noqa: F401 - adds its verbs to data_app
from tryon.cli_bench import bench_app
from tryon.cli_data import ActorsOption, BundleOption, data_app
from tryon.cli_keys import keys_app
from tryon.cli_models import models_app
from tryon.cli_runs import runs_app
from tryon.cli_tryon import extract, infer, video
from tryon.cli_tune import tune
from tryon.errors import ConfigError, TryonError

app = typer.Typer(
    name="tryon",
    help="Virtual try-on: photos to annotated shards, shards to a trained bundle, a bundle to a try-on service.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(data_app, name="data")
app.add_typer(models_app, name="models")
app.add_typer(runs_app, name="runs")
app.add_typer(bench_app, name="bench")
app.add_typer(keys_app, name="keys")

USER_FAULT = 2
INTERRUPTED = 130


def main() -> None:
    """Entry point: what the user got wrong ends as one sentence and exit code 2, never as a traceback."""
    try:
        code = app(standalone_mode=False)
    except TryonError as error:
        _fail(error.message)
    except TyperException as error:
        _fail_usage(error)
    except (typer.Abort, KeyboardInterrupt):
        _interrupted()
    if code == INTERRUPTED:  # typer turns Ctrl-C inside a verb into this code
        _interrupted()
    sys.exit(code)


def _fail(message: str) -> NoReturn:
    print(f"tryon: {message}", file=sys.stderr)
    sys.exit(USER_FAULT)


def _fail_usage(error: TyperException) -> NoReturn:
    """A wrong option, in one line like all other faults; typer's own form is a box of several."""
    message = " ".join(error.format_message().split()).rstrip(".")
    if not message:  # a group without a verb: typer has printed the help
        sys.exit(USER_FAULT)
    context = getattr(error, "ctx", None)
    _fail(f"{message}; see `{context.command_path} --help`" if context else message)


def _interrupted() -> NoReturn:
    print("tryon: interrupted; the same command goes on from what is there", file=sys.stderr)
    sys.exit(INTERRUPTED)


def _version(show: bool) -> None:
    if show:
        from tryon import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Reads the options that all verbs share."""


app.command()(infer)
app.command()(extract)
app.command()(video)


@app.command()
def train(
    data: Annotated[str, typer.Option(help="URI of an annotated data set.")],
    out: Annotated[str, typer.Option(help="URI of the bundle to write into; its other networks are kept.")],
    recipe: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(
            help="gmm or flow (warping), tom, latent_diffusion, inpaint or concat_inpaint (synthesis), joint (both), "
            "latent_consistency (synthesis in few steps), "
            "scm (refinement), segment (parsing), extract (extraction), autoencoder or vae (reconstruction)."
        ),
    ] = None,
    plan: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="YAML file of a chain of recipes instead of one, e.g. plans/small.yaml."),
    ] = None,
    val: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="With --plan: data set or VITON-HD folder to measure the bundle on after each step."),
    ] = None,
    bundle: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Bundle that frozen networks come from. Default: the one at --out."),
    ] = None,
    config: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="YAML file of training options, e.g. jobs/train_gmm.yaml."),
    ] = None,
    set_: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", metavar="KEY=VALUE", help="One option, over the file's, e.g. --set steps=500."),
    ] = None,
) -> None:
    """Train a network with Ray Train and write it into a bundle. A run that was cut off goes on.

    Train gmm or flow first, then tom (on the frozen warp), then scm (on both); or all of them by a plan.

    Example: tryon train gmm --data data/train --out bundles/mine --set steps=2000

    Example: tryon train --plan plans/small.yaml --data data/train --val data/val --out bundles/mine
    """
    from tryon.options import read_options
    from tryon.show import train_shown

    if plan is not None:
        if recipe or bundle or config or set_:
            text = "--plan says what is trained and how: no RECIPE, --bundle, --config or --set goes with it"
            raise ConfigError(text, code="option-invalid", field="--plan")
        if val is None:
            raise ConfigError("--plan needs --val, a data set to measure on", code="option-missing", field="--val")
        from tryon.show_plan import plan_shown

        plan_shown(plan, data, val, out)
        return
    if recipe is None:
        raise ConfigError("give a RECIPE to train, or --plan; see `tryon train --help`", code="option-missing")
    train_shown(recipe, data, out, read_options(config, set_ or []), bundle)


app.command()(tune)


@app.command()
def evaluate(
    data: Annotated[str, typer.Option(help="Annotated data set or VITON-HD folder.")],
    out: Annotated[str, typer.Option(help="Folder for metrics.json, report.html and per-sample tables.")],
    bundle: BundleOption = None,
    pairing: Annotated[
        str,
        typer.Option(help="paired: the person photo is the truth; unpaired: the garment photo is all there is."),
    ] = "paired",
    lpips_weights: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Torchvision's AlexNet or VGG16 (.pth or .safetensors, path or s3://): adds LPIPS."),
    ] = None,
    lpips_heads: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="LPIPS's linear heads. Default: those that torchmetrics brings."),
    ] = None,
    fid_weights: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="The Inception of pytorch-fid (path or s3://): adds FID, KID and IS over the set."),
    ] = None,
    pictures: Annotated[int, typer.Option(min=0, max=1000, help="Samples shown in the report, the worst ones.")] = 24,
    actors: ActorsOption = None,
) -> None:
    """Measure a bundle beside two baselines, and write a report with the worst samples first.

    Paired: SSIM, MS-SSIM, PSNR, VIF of the whole image, and of the worn garment alone. Unpaired: how far colours and
    texture of the garment are from its photo's, and whether anything outside the mask, the head or the hands changed.

    Example: tryon evaluate --data data/test --bundle bundles/mine --out out/eval
    """
    from tryon.show import evaluate_shown

    options = {
        "num_pictures": pictures, "pairing": pairing, "lpips_weights": lpips_weights, "lpips_heads": lpips_heads,
        "fid_weights": fid_weights,
    }  # fmt: skip
    evaluate_shown(data, bundle, out, num_actors=actors, **options)


@app.command()
def measure(
    role: Annotated[str, typer.Argument(help="warp, synthesis, refinement, parsing, extraction or reconstruction.")],
    data: Annotated[str, typer.Option(help="URI of an annotated data set; all its rows are measured.")],
    bundle: BundleOption = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Measure one network as its recipe does in training: a warp's end-point error, a parser's mIoU, a SCM's gain.

    Example: tryon measure warp --bundle bundles/mine --data data/test
    """
    from tryon.show_models import measure_shown

    measure_shown(role, data, bundle, as_json=json)


@app.command()
def serve(
    bundle: BundleOption = None,
    config: Annotated[Path, typer.Option(help="A file of serve_configs/.")] = Path("serve_configs/local.yaml"),
    host: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Address to listen on. Default: the file's."),
    ] = None,
    port: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, max=65535, help="Port. Default: the file's."),
    ] = None,
    keys: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="File of API keys (`tryon keys create`), needed off loopback. Default: the file's."),
    ] = None,
) -> None:
    """Start the HTTP service on Ray Serve and keep it up until Ctrl-C.

    Example: tryon serve --bundle bundles/mine, then open http://127.0.0.1:8000/docs
    """
    from tryon.serving.run import serve_forever

    serve_forever(config, bundle=bundle, host=host, port=port, keys=keys)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def submit(
    context: typer.Context,
    job: Annotated[str, typer.Argument(help="A file of jobs/, without its ending: annotate, train, evaluate ...")],
    address: Annotated[
        str, typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="Of the cluster's dashboard.")
    ] = "http://127.0.0.1:8265",
    folder: Annotated[Path, typer.Option(help="Is packed and sent; what git ignores stays here.")] = Path("."),
) -> None:
    """Run a job of jobs/ on a cluster, follow its log, and end with its exit code.

    All other options are the job's own.

    Example: tryon submit train --address http://head:8265 gmm --data s3://shop/data --out s3://shop/bundles/mine
    """
    from tryon.submit import submit as run_job

    raise typer.Exit(run_job(job, context.args, address, folder))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for all that is made.")] = Path("out/demo"),
    person: Annotated[Optional[Path], typer.Option(help="Your own person photo.")] = None,  # noqa: UP045
    garment: Annotated[Optional[Path], typer.Option(help="Your own garment photo.")] = None,  # noqa: UP045
    scale: Annotated[float, typer.Option(min=0.01, max=100.0, help="More or less data and training.")] = 1.0,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the service; 0 takes a free one.")] = 0,
) -> None:
    """Go the whole way: simulate, annotate, train, evaluate, serve, and one try-on over HTTP.

    What an earlier run finished is taken over.
    """
    from tryon.demo import run_demo

    run_demo(out, person=person, garment=garment, scale=scale, port=port)


@app.command("export-onnx")
def export_onnx(
    role: Annotated[
        str,
        typer.Option(help="Which network: warp, synthesis, refinement, parsing, extraction or reconstruction."),
    ],
    out: Annotated[str, typer.Option(help="URI of the .onnx file to write.")],
    bundle: BundleOption = None,
) -> None:
    """Write a network of a bundle as ONNX, at its own size for any batch, checked against PyTorch.

    Example: tryon export-onnx --bundle bundles/mine --role synthesis --out tom.onnx
    """
    from tryon.show_models import export_shown

    export_shown(bundle, role, out)


@app.command()
def doctor() -> None:
    """Say what this machine has, what is missing, and how to get it."""
    from tryon.doctor import run_doctor

    if not run_doctor():
        raise typer.Exit(1)
