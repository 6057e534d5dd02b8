"""What is connected by links: components, photos that are the same, rows that show one garment.

One task for the whole data set, on a worker: it holds the links, never the rows. Rows without a link are not in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tryon.data.curate.links import Flag, Kind, links_uri
from tryon.data.curate.steps import read_table, told_by, write_table
from tryon.data.rows import open_parquet
from tryon.engines.dataset import ShardReport

if TYPE_CHECKING:
    import pyarrow as pa

Ints = npt.NDArray[np.int64]

SAME_PERSON_PHOTO = (Kind.PERSON_SAME, Kind.PERSON_NEAR)
SAME_GARMENT_PHOTO = (Kind.GARMENT_SAME, Kind.GARMENT_NEAR)
EXAMPLES = 10


class Label(NamedTuple):
    """What links say of a row.

    Attributes:
        component: smallest id among all rows that are connected with it.
        garment_group: smallest id among the rows that show the same garment.
        duplicate_of: id of the row that stands for it, or None.
        kept: the split that its component brings, as its place in `SPLITS` plus 1; 0 where it brings none.
    """

    component: str
    garment_group: str
    duplicate_of: str | None
    kept: int


class ComponentWorker:
    """Labels every row that has a link."""

    def __init__(self, uri: str, key: str, num_parts: int, path: str) -> None:
        self._uri = uri
        self._key = key
        self._num_parts = num_parts
        self._path = path

    def process(self, shard: int, task: Any) -> ShardReport:
        """Writes the labels to one file, sorted by row, unless it is there."""
        told = told_by(self._path, self._key)
        if told is None:
            parts = (read_table(links_uri(self._uri, part)) for part in range(self._num_parts))
            table, found = label_rows(_concat(parts))
            told = {"key": self._key, "found": found}
            write_table(self._path, table, told)
        found = told["found"]
        return ShardReport(shard, found["rows"], found["rows"], 0, payload=json.dumps(found))


def _concat(parts: Any) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables(part.replace_schema_metadata(None) for part in parts)


def label_rows(links: pa.Table) -> tuple[pa.Table, dict[str, Any]]:
    """Labels of all rows in a table of links.

    Returns:
        The labels, sorted by node, and counts: rows, components, the largest one's rows, components whose rows bring
        different splits (``conflicts``) and the first of their names (``examples``).
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    ends = {name: pa.chunked_array([*links[f"{name}_a"].chunks, *links[f"{name}_b"].chunks], links[f"{name}_a"].type)
            for name in ("node", "id", "flags")}  # fmt: skip
    nodes, first, place = np.unique(ends["node"].to_numpy(), return_index=True, return_inverse=True)
    ids, flags = ends["id"].take(pa.array(first)).combine_chunks(), ends["flags"].to_numpy()[first]
    order = pc.array_sort_indices(ids).to_numpy().astype(np.int64)
    graph = _Graph(links["kind"].to_numpy(), place[: len(links)], place[len(links) :], order)
    whole = graph.labels(tuple(Kind))
    kept, found = _kept(whole, (flags & Flag.SPLIT).astype(np.int64))
    component = ids.take(pa.array(graph.smallest(whole)))
    garment = graph.labels((Kind.GARMENT_ID, *SAME_GARMENT_PHOTO, *SAME_PERSON_PHOTO))
    stands = _stands_for(graph, flags)
    table = pa.table(
        {
            "node": pa.array(nodes),
            "component": component,
            "garment_group": ids.take(pa.array(graph.smallest(garment))),
            "duplicate_of": ids.take(pa.array(stands, mask=stands == np.arange(len(stands)))),
            "kept": pa.array(kept[whole].astype(np.uint8)),
        }
    )
    counts = np.bincount(whole)
    examples = sorted(set(component.filter(pa.array(found[whole])).to_pylist()))[:EXAMPLES]
    return table, {
        "rows": len(nodes), "components": len(counts), "largest": int(counts.max(initial=0)),
        "conflicts": int(found.sum()), "examples": examples,
    }  # fmt: skip


class _Graph:
    """Rows as places 0..n-1 and the links between them; `order` has the places sorted by id."""

    def __init__(self, kinds: Any, a: Ints, b: Ints, order: Ints) -> None:
        self._kinds, self._a, self._b = kinds, a, b
        self.order = order
        self.rank = np.empty(len(order), dtype=np.int64)
        self.rank[order] = np.arange(len(order))

    def labels(self, kinds: Sequence[Kind]) -> Ints:
        """Component (n,) of each row by links of some kinds."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        use = np.isin(self._kinds, kinds)
        num = len(self.order)
        graph = coo_array((np.ones(int(use.sum()), np.int8), (self._a[use], self._b[use])), shape=(num, num))
        return np.asarray(connected_components(graph.tocsr(), directed=False)[1], dtype=np.int64)

    def smallest(self, labels: Ints, among: npt.NDArray[np.bool_] | None = None) -> Ints:
        """For each row the place of the smallest id with its label, among some rows; its own where there is none."""
        num = len(self.order)
        least = np.full(int(labels.max(initial=-1)) + 1, num, dtype=np.int64)
        chosen = np.ones(num, dtype=bool) if among is None else among
        np.minimum.at(least, labels[chosen], self.rank[chosen])
        found = least[labels]
        return np.where(found < num, self.order[np.minimum(found, max(num - 1, 0))], np.arange(num))


def _kept(labels: Ints, own: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """By component: the commonest split its rows bring (0: none), and whether they bring different ones."""
    num = int(labels.max(initial=-1)) + 1
    counts = np.bincount(4 * labels + own, minlength=4 * num).reshape(num, 4)[:, 1:]
    brings = counts > 0
    return np.where(brings.any(axis=1), counts.argmax(axis=1) + 1, 0), brings.sum(axis=1) > 1


def _stands_for(graph: _Graph, flags: Any) -> Ints:
    """For each row the place of the row it is a duplicate of, or its own.

    Two rows with both photos are duplicates if both photos are: one person photo may be paired with a top and, in
    another row, with trousers. A row with one photo is a duplicate of a row with both if that photo is the same.
    """
    person_photo, garment_photo = graph.labels(SAME_PERSON_PHOTO), graph.labels(SAME_GARMENT_PHOTO)
    has_person, has_garment = (flags & Flag.PERSON) > 0, (flags & Flag.GARMENT) > 0
    both = has_person & has_garment
    _, pair = np.unique(np.stack([person_photo, garment_photo], axis=1), axis=0, return_inverse=True)
    out = np.where(both, graph.smallest(pair.reshape(-1).astype(np.int64), both), 0)
    for alone, photo in ((has_person & ~has_garment, person_photo), (~has_person, garment_photo)):
        stands = graph.smallest(photo, both)
        among = graph.smallest(photo, alone)
        has_full = both[stands]
        out = np.where(alone, np.where(has_full, stands, among), out)
    return out


def read_labels(path: str, first: int, last: int) -> dict[int, Label]:
    """Labels by node for nodes first <= node < last; reads the row groups that hold them and no other."""
    out: dict[int, Label] = {}
    with open_parquet(path) as file:
        for group in range(file.metadata.num_row_groups):
            if not file.metadata.row_group(group).num_rows:  # no row of the data set has a link
                continue
            known = file.metadata.row_group(group).column(0).statistics
            if known.max < first or known.min >= last:
                continue
            for row in file.read_row_group(group).to_pylist():
                node = row.pop("node")
                if first <= node < last:
                    out[node] = Label(**row)
    return out
