"""The data report: one HTML page that says what a data set holds, what was set aside and why, with pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from pydantic import Field

from tryon import storage
from tryon.charts import Bar, Histogram, bars, figure, histogram
from tryon.config import Config
from tryon.data.look.info import DataInfo, info
from tryon.data.look.samples import VIEWS, PictureWorker, Reason, Rejections, Shown, rejected_in, spread
from tryon.data.look.tally import PPM, READS, Tally
from tryon.data.rows import iter_decoded
from tryon.data.shards import read_manifest, shard_uri
from tryon.engines.dataset import ShardReport, run_shards
from tryon.page import render
from tryon.sample import PALETTE, Joint, Label

OnShard = Callable[[str, int, int], None]
SHARE_TITLES: Mapping[str, tuple[str, str]] = {
    "person_mask": ("Person share", "of the frame that the person covers"),
    "garment_mask": ("Garment share", "of the garment photo that is garment"),
    "agnostic_mask": ("Painted-out share", "of the frame that is to be generated"),
    "confidence": ("Keypoint confidence", "of the keypoints that were found"),
}
JOINTS = (
    Joint.NOSE, Joint.NECK, Joint.LEFT_SHOULDER, Joint.RIGHT_SHOULDER, Joint.LEFT_ELBOW, Joint.RIGHT_ELBOW,
    Joint.LEFT_WRIST, Joint.RIGHT_WRIST, Joint.LEFT_HIP, Joint.RIGHT_HIP, Joint.LEFT_KNEE, Joint.RIGHT_KNEE,
    Joint.LEFT_ANKLE, Joint.RIGHT_ANKLE,
)  # fmt: skip


class ReportConfig(Config):
    """What the page shows."""

    num_samples: int = Field(24, ge=0, le=400, description="samples in the grid, spread evenly over the data set")
    height: int = Field(300, ge=64, le=1024, description="of their pictures, px")


@dataclass(frozen=True)
class Card:
    """A titled chart."""

    title: str
    note: str
    chart: Histogram


class StatsWorker:
    """Adds up one shard's figures and reads its quarantine."""

    def process(self, shard: int, task: tuple[str, int]) -> ShardReport:
        """Payload: the shard's tally and its rejected rows."""
        uri, number = task
        tally, rows = Tally(), 0
        for row in iter_decoded(shard_uri(uri, number), READS):
            tally.add_row(row)
            rows += 1
        payload = json.dumps({"tally": tally.dump(), "rejected": rejected_in(uri, number)})
        return ShardReport(number, rows, rows, 0, payload=payload)


def report(
    uri: str,
    out: str,
    config: ReportConfig | None = None,
    *,
    num_actors: int | None = None,
    on_shard: OnShard | None = None,
) -> DataInfo:
    """Writes the page. The same data set gives the same bytes, whatever the number of actors.

    Args:
        uri: of the data set.
        out: URI of the HTML file.
        config: what it shows.
        num_actors: see `run_shards`.
        on_shard: told what is done, the shards done and their number.

    Returns:
        What `info` tells of the data set.

    Raises:
        DataError: no data set, or a shard that is damaged.
        StorageError: a place cannot be read or written.
    """
    uri, config = storage.absolute(uri), config or ReportConfig()
    manifest = read_manifest(uri)
    told = info(uri, num_actors=num_actors)
    tally, rejections = Tally(), Rejections()
    counts = [0] * manifest.num_shards
    tasks = ((uri, shard) for shard in range(manifest.num_shards))
    for done, shard in enumerate(run_shards(tasks, StatsWorker, num_actors=num_actors), 1):
        payload = json.loads(shard.payload)
        tally.add(Tally.load(payload["tally"]))
        rejections.add(shard.shard, payload["rejected"])
        counts[shard.shard] = shard.rows_out
        if on_shard is not None:
            on_shard("figures", done, manifest.num_shards)
    shown = _pictures(uri, spread(counts, config.num_samples), config.height, num_actors, on_shard)
    page = _render(told, tally, rejections.reasons(config.height), shown)
    storage.write_bytes(out, page.encode())
    return told


def _pictures(
    uri: str, chosen: Mapping[int, list[int]], height: int, num_actors: int | None, on_shard: OnShard | None
) -> list[Shown]:
    tasks = [(uri, shard, places) for shard, places in sorted(chosen.items())]
    drawn: list[list[Shown]] = [[] for _ in tasks]
    for done, part in enumerate(run_shards(tasks, partial(PictureWorker, height), num_actors=num_actors), 1):
        drawn[part.shard] = [Shown(*pair) for pair in json.loads(part.payload)]
        if on_shard is not None:
            on_shard("pictures", done, len(tasks))
    return [shown for some in drawn for shown in some]


def _render(told: DataInfo, tally: Tally, reasons: list[Reason], shown: list[Shown]) -> str:
    rejected = max(1, sum(reason.count for reason in reasons))
    return render(
        "tryon.data.look", "report.html.j2", {"size": _size},
        info=told,
        name=told.uri.rstrip("/").rsplit("/", 1)[-1],
        cards=_cards(tally),
        quality=[_card(name.removeprefix("quality ").replace("_", " "), "", counts)
                 for name, counts in sorted(tally.numbers.items()) if name.startswith("quality ")],
        labels=_label_bars(tally),
        joints=_joint_bars(tally),
        values={name.replace("_", " "): _value_bars(counts) for name, counts in told.values.items() if _tells(counts)},
        sizes=told.sizes,
        reasons=reasons,
        reason_bars=bars([Bar(r.code, r.count / rejected, f"{r.count:,}") for r in reasons], name_px=150),
        shown=shown,
        views={name: title for name, title in VIEWS.items() if any(name in sample.views for sample in shown)},
        config=json.dumps(told.model_dump(mode="json")["config"], indent=2, ensure_ascii=False),
    )  # fmt: skip


def _tells(counts: Mapping[str, int]) -> bool:
    return set(counts) != {"-"}


def _cards(tally: Tally) -> list[Card]:
    return [
        _card(title, note, tally.numbers[name], (0.0, 1.0))
        for name, (title, note) in SHARE_TITLES.items()
        if name in tally.numbers
    ]


def _card(title: str, note: str, counts: Mapping[float, int], span: tuple[float, float] | None = None) -> Card:
    return Card(title, note, histogram(counts, span))


def _label_bars(tally: Tally) -> str:
    """Mean share of the frame by class, largest first; the background, which dwarfs them, is left out."""
    if not tally.parsed:
        return ""
    shares = {label: tally.labels[label] / (PPM * tally.parsed) for label in Label if label is not Label.BACKGROUND}
    top = max(*shares.values(), 1e-9)
    rows = []
    for label, share in sorted(shares.items(), key=lambda item: -item[1]):
        colour = "#{:02x}{:02x}{:02x}".format(*(int(v) for v in PALETTE[label]))
        if share:
            rows.append(Bar(label.name.lower().replace("_", " "), share / top, f"{share:.2%}", colour))
    return bars(rows)


def _joint_bars(tally: Tally) -> str:
    if not tally.posed:
        return ""
    shares = {joint: tally.joints[joint] / tally.posed for joint in JOINTS}
    return bars([Bar(j.name.lower().replace("_", " "), s, f"{s:.0%}") for j, s in shares.items()])


def _value_bars(counts: Mapping[str, int]) -> str:
    total = max(1, sum(counts.values()))
    named = {("not said" if name == "-" else name): n for name, n in list(counts.items())[:12]}
    return bars([Bar(name, n / total, f"{n:,}") for name, n in named.items()])


def _size(num_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if num_bytes < 1000 or unit == "TB":
            break
        num_bytes /= 1000
    return f"{figure(num_bytes)} {unit}"
