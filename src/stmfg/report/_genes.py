"""Raw counts of every gene for the page, packed small: a browser unpacks a group of genes in milliseconds.

A gene is two rows of bytes. One tells how many spots to skip before each spot that has the gene, the other the count
there less one; a number of 255 or more has a byte 255 before it for each 255 in it. Genes seen in about as many spots
lie together, so that one Huffman code suits them all.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from stmfg._core.blocks import row_blocks
from stmfg.model.threads import map_in_order
from stmfg.report._map_data import pack_bytes, pack_names
from stmfg.report._template import write_text

LEAST_SHARE: Final = 0.01
"""Share of the spots that must have a gene for it to be on the page."""
_INSIDE = 11_000_000  # letters of all groups up to which they lie in the page itself: it stays below 15 MB
_GROUP = {True: 500_000, False: 1_500_000}  # bytes of a group before compression: in the page, in a file beside it
_BYTES_OF_A_LETTER = 4  # more than ever came out: beyond, packing is not tried
_MOST: Final = 1_000_000  # larger counts, of damaged files, are shown as this one: each takes its own length in bytes
_STEP = 255


@dataclass(frozen=True)
class GeneStreams:
    """The counts of every gene as bytes: parts of consecutive spots, each with where its genes begin."""

    depth: NDArray[np.float64]  # counts of every spot, (n,)
    n_spots: NDArray[np.int64]  # chosen spots that have each gene, (genes,)
    total: NDArray[np.int64]  # of all spots, how many have each gene, (genes,)
    parts: list[tuple[bytes, NDArray[np.int64], bytes, NDArray[np.int64]]]  # gaps, their starts, counts, their starts

    def sizes(self) -> NDArray[np.int64]:
        """Return how many bytes the gaps and the counts of every gene take, (genes, 2)."""
        parts = [np.diff([gaps_at, counts_at]).T for _, gaps_at, _, counts_at in self.parts]
        return np.asarray(np.sum(parts, axis=0))

    def gene(self, i: int) -> tuple[bytes, bytes]:
        """Return the gaps and the counts of a gene."""
        gaps = b"".join(part[at[i] : at[i + 1]] for part, at, _, _ in self.parts)
        return gaps, b"".join(part[at[i] : at[i + 1]] for _, _, part, at in self.parts)


def read_streams(counts: Any, chosen: NDArray[np.int64]) -> GeneStreams:
    """Pack the counts (n, genes) of the chosen spots in one pass, a block of rows in memory at a time."""
    n, n_genes = counts.shape
    depth = np.empty(n)
    n_spots, total, last = (np.zeros(n_genes, dtype=np.int64) for _ in range(3))  # last: spots dealt with

    def sort_block(item: tuple[slice, sparse.csr_matrix]) -> _Sorted:
        rows, block = item
        depth[rows] = np.asarray(block.sum(axis=1)).ravel()
        first, stop = np.searchsorted(chosen, (rows.start, rows.stop))
        return _sort_by_gene(block, chosen[first:stop] - rows.start, int(first))

    def close_gaps() -> Iterator[_Sorted]:
        """Count each gene's first spot of a block from its last of the blocks before."""
        for block in map_in_order(sort_block, row_blocks(counts)):
            occupied = np.diff(block.starts) > 0
            block.gaps[block.starts[:-1][occupied]] -= last[occupied].astype(np.int32)
            last[occupied] = block.last[occupied] + 1
            np.add(n_spots, np.diff(block.starts), out=n_spots)
            np.add(total, block.total, out=total)
            yield block

    return GeneStreams(depth, n_spots, total, list(map_in_order(_pack_block, close_gaps())))


class _Sorted(NamedTuple):
    """The counts of some chosen spots, gene by gene."""

    starts: NDArray[Any]  # where each gene begins, and the end, (genes + 1,)
    gaps: NDArray[np.int32]  # spots between each spot of a gene and the one before, or before the first of the block
    values: NDArray[np.int32]  # counts, less one
    last: NDArray[np.int64]  # last spot of each gene that has any, (genes,)
    total: NDArray[np.int64]  # spots of the block, chosen or not, that have each gene, (genes,)


def _sort_by_gene(block: sparse.csr_matrix, chosen: NDArray[np.int64], first: int) -> _Sorted:
    """Sort the chosen rows of a block by gene; they are the spots from number `first` on."""
    columns = sparse.csr_matrix(block).tocsc()
    columns.eliminate_zeros()
    total = np.diff(columns.indptr)
    if len(chosen) < columns.shape[0]:
        columns = columns[chosen]
    columns.sort_indices()
    spots = columns.indices.astype(np.int32) + np.int32(first)
    occupied = np.diff(columns.indptr) > 0
    gaps = spots.copy()
    gaps[1:] -= spots[:-1] + 1
    starts = columns.indptr[:-1][occupied]
    gaps[starts] = spots[starts]
    last = np.zeros(columns.shape[1], dtype=np.int64)
    last[occupied] = spots[columns.indptr[1:][occupied] - 1]
    values = np.minimum(columns.data, _MOST).astype(np.int32) - 1
    return _Sorted(columns.indptr, gaps, values, last, total)


def _pack_block(block: _Sorted) -> tuple[bytes, NDArray[np.int64], bytes, NDArray[np.int64]]:
    gaps, after_gap = _to_bytes(block.gaps)
    values, after_value = _to_bytes(block.values)
    return gaps, after_gap[block.starts], values, after_value[block.starts]


def _to_bytes(numbers: NDArray[np.int32]) -> tuple[bytes, NDArray[np.int64]]:
    """Return numbers as bytes, and where each begins, with the end of the last."""
    more = numbers // _STEP
    starts = np.arange(len(numbers) + 1)
    starts[1:] += np.cumsum(more)
    text = np.full(int(starts[-1]), _STEP, dtype=np.uint8)
    text[starts[1:] - 1] = numbers - _STEP * more
    return text.tobytes(), starts


@dataclass(frozen=True)
class PackedGenes:
    """All genes of a page: an index of them for the page's data, and their groups as text."""

    index: dict[str, Any]
    groups: list[str]
    inside: bool  # whether the groups lie in the page


def pack_all(
    streams: GeneStreams, names: Sequence[str], markers: Sequence[int], others: NDArray[np.int64]
) -> PackedGenes:
    """Pack the markers as the first group and the `others` (positions of genes) in groups as they are asked for."""
    order = [*markers, *others[np.argsort(streams.n_spots[others], kind="stable")].tolist()]
    sizes = streams.sizes()[order]
    for inside in (True, False):
        if inside and sizes.sum() > _BYTES_OF_A_LETTER * _INSIDE:
            continue
        starts = [0, *_group_starts(sizes.sum(axis=1), len(markers), _GROUP[inside])]
        genes = ([streams.gene(gene) for gene in order[a:b]] for a, b in pairwise([*starts, len(order)]))
        groups = list(map_in_order(_pack_group, genes))
        if inside and sum(map(len, groups)) <= _INSIDE:
            break
    index = {
        "names": pack_names([names[gene] for gene in order]),
        "sizes": pack_bytes(sizes.astype("<u4")),
        "starts": starts,
        "markers": len(markers),
        "target": float(np.median(streams.depth[streams.depth > 0])) if (streams.depth > 0).any() else 1.0,
        "token": hashlib.sha256("".join(groups).encode()).hexdigest()[:12],
        "share": LEAST_SHARE,
    }
    return PackedGenes(index, groups, inside)


def write_groups(packed: PackedGenes, folder: Path) -> None:
    """Write the groups but the first as scripts beside the page, or take away those of an earlier page."""
    names = {f"{number:03d}.js": number for number in range(1, len(packed.groups))} if not packed.inside else {}
    if names:
        folder.mkdir(exist_ok=True)

    def write_group(item: tuple[str, int]) -> None:
        name, number = item
        text = f'stmfgGenes("{packed.index["token"]}",{number},"{packed.groups[number]}");\n'
        write_text(folder / name, text)

    deque(map_in_order(write_group, names.items()), maxlen=0)  # a disk takes its time for each
    remove_genes(folder, keep=names)


def remove_genes(folder: Path, keep: Iterable[str] = ()) -> None:
    """Remove the files that a page put into its folder of genes, and the folder if nothing else is in it."""
    for old in folder.glob("[0-9][0-9][0-9]*.js"):
        if old.name not in keep:
            old.unlink()
    if not keep:
        with suppress(OSError):  # absent, or other files are in it
            folder.rmdir()


def _group_starts(sizes: NDArray[np.int64], n_markers: int, most: int) -> list[int]:
    """Return where the groups after the first begin: so many bytes each, a gene at least."""
    starts: list[int] = []
    filled = most
    for gene in range(n_markers, len(sizes)):
        if filled >= most:
            starts.append(gene)
            filled = 0
        filled += int(sizes[gene])
    return starts


def _pack_group(rows: list[tuple[bytes, bytes]]) -> str:
    """Return the gaps of all genes, then their counts, deflated: a Huffman code alone is the smallest, and quick."""
    deflate = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_HUFFMAN_ONLY)
    packed = deflate.compress(b"".join([gaps for gaps, _ in rows] + [values for _, values in rows]))
    return base64.b64encode(packed + deflate.flush()).decode("ascii")
