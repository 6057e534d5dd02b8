"""Hash codes as numbers: bands that near codes share, and the codes of a band that are near each other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tryon.stages.fingerprint import COLOUR_BITS, HASH_BITS, STRUCTURE_BITS

UInt8 = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

CODE_BYTES = HASH_BITS // 8
BANDS = 16  # of 16 bits each: of 5,200 photos within 32 bits of their original, 99.7 % share a band with it
SMALL = 16  # codes of a band whose pairs are compared together with those of other bands, for speed
CAP = 256  # codes of which all pairs are compared; a fuller band is told apart by further bits
_PAIRS_AT_ONCE = 1 << 18
_NIBBLES = STRUCTURE_BITS // 4
_DEPTH = 12  # further nibbles before codes of one structure are compared with their neighbours only


_SET_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)


def codes_of(hashes: list[str]) -> UInt8:
    """Hex hashes as uint8 (N, 48)."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint8).reshape(-1, CODE_BYTES)


def band_values(codes: UInt8) -> npt.NDArray[np.uint64]:
    """The 16 bands (N, 16) of codes (N, 48): their structure's bytes, two by two."""
    pairs = codes[:, : 2 * BANDS].reshape(-1, BANDS, 2).astype(np.uint64)
    return (pairs[..., 0] << np.uint64(8)) | pairs[..., 1]


def distances(codes: UInt8) -> tuple[Ints, Ints]:
    """Differing bits of structure and of colour between all pairs (N, N) of codes (N, 48)."""
    signs = np.unpackbits(codes, axis=1).astype(np.float32) * 2 - 1
    parts = signs[:, :STRUCTURE_BITS], signs[:, STRUCTURE_BITS:]
    structure, colour = (
        ((bits - part @ part.T) / 2).astype(np.int64)
        for bits, part in zip((STRUCTURE_BITS, COLOUR_BITS), parts, strict=True)
    )
    return structure, colour


def near_pairs(
    codes: UInt8, starts: Ints, sizes: Ints, max_structure: int, max_colour: int
) -> Iterator[tuple[int, int, int, int]]:
    """All near pairs inside small groups of neighbouring codes.

    Args:
        codes: uint8 (N, 48).
        starts: where each group starts.
        sizes: codes of each group, 2 to `SMALL`.
        max_structure: differing bits of the structure that still are near.
        max_colour: differing bits of the colour that still are near.

    Yields:
        (i, j, structure bits, colour bits) with places in `codes`, i < j.
    """
    for size in np.unique(sizes):
        i, j = np.triu_indices(int(size), 1)
        first = starts[sizes == size]
        for part in np.array_split(first, -(-len(first) * len(i) // _PAIRS_AT_ONCE)):
            a, b = (part[:, None] + i).ravel(), (part[:, None] + j).ravel()
            bits = _SET_BITS[codes[a] ^ codes[b]]
            structure = bits[:, : STRUCTURE_BITS // 8].sum(axis=1, dtype=np.int64)
            colour = bits[:, STRUCTURE_BITS // 8 :].sum(axis=1, dtype=np.int64)
            near = (structure <= max_structure) & (colour <= max_colour)
            found = (column[near].tolist() for column in (a, b, structure, colour))
            yield from zip(*found, strict=True)


def near_links(codes: UInt8, band: int, max_structure: int, max_colour: int) -> list[tuple[int, int, int, int]]:
    """Links between codes of one band that are near: a spanning forest of all near pairs.

    Equal codes are linked to the first of them, and one of them stands for all, so that a million blank photos
    cost a million links and not their square.

    Args:
        codes: uint8 (N, 48), in a fixed order.
        band: they share; further bits are taken from behind it.
        max_structure: differing bits of the structure that still are near.
        max_colour: differing bits of the colour that still are near.

    Returns:
        (i, j, structure bits, colour bits) with i < j.
    """
    packed = np.ascontiguousarray(codes).view(f"V{CODE_BYTES}").ravel()
    _, first, group = np.unique(packed, return_index=True, return_inverse=True)
    links = [(int(first[g]), i, 0, 0) for i, g in enumerate(group) if first[g] != i]
    for some in _blocks(codes, np.sort(first), 4 * (band + 1), 0):
        links.extend(_forest(codes, some, max_structure, max_colour))
    return links


def _blocks(codes: UInt8, members: Ints, nibble: int, depth: int) -> Iterator[Ints]:
    """Members in blocks of at most `CAP`, told apart by one nibble after the other."""
    if len(members) <= CAP:
        if len(members) > 1:
            yield members
        return
    if depth == _DEPTH:
        order = members[np.lexsort(codes[members].T[::-1])]
        for start in range(0, len(order), CAP // 2):
            yield np.sort(order[start : start + CAP])
        return
    byte, low = divmod(nibble % _NIBBLES, 2)
    values = codes[members, byte] & 15 if low else codes[members, byte] >> 4
    for value in range(16):
        yield from _blocks(codes, members[values == value], nibble + 1, depth + 1)


def _forest(codes: UInt8, some: Ints, max_structure: int, max_colour: int) -> Iterator[tuple[int, int, int, int]]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    structure, colour = distances(codes[some])
    i, j = np.nonzero(np.triu((structure <= max_structure) & (colour <= max_colour), 1))
    if not len(i):
        return
    # One more than the bits: a sparse graph has no edge of weight 0. The place breaks ties the same way everywhere.
    weight = (structure + colour)[i, j] + 1 + np.arange(len(i)) / len(i)
    tree = minimum_spanning_tree(coo_array((weight, (i, j)), shape=(len(some),) * 2).tocsr()).tocoo()
    for a, b in sorted(zip(tree.row.tolist(), tree.col.tolist(), strict=True)):
        a, b = min(a, b), max(a, b)
        yield int(some[a]), int(some[b]), int(structure[a, b]), int(colour[a, b])
