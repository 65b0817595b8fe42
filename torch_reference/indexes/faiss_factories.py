"""FAISS factory strings: the named presets, what is supported, and an index made from one that trains quietly.

FAISS ships stubs that lack much of what it has: hence the ignored types.

Source: the FAISS wiki, "The index factory" and "Guidelines to choose an index".

Letters: N candidates, D width.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import faiss
import numpy as np

from retrieval_contract import config
from retrieval_contract.arrays import Float32Array
from retrieval_contract.errors import UserError
from torch_reference.indexes.faiss_structure import parts

EXAMPLES = "Flat; IVF100,Flat; HNSW32; IVF100,PQ8; IVF100,PQ16x4fs; OPQ8,IVF100,PQ8; SQ8; or IVF100,RaBitQ"
_TRANSFORM = r"((?P<opq>OPQ[1-9]\d{0,2}(_(?P<width>[1-9]\d{0,3}))?,)|RR[1-9]\d{0,3},)?"
_LISTS = r"(IVF[1-9]\d{0,6},)?"
_HELD = r"(Flat|SQ(8|6|4|fp16|bf16)|(?P<pq>PQ[1-9]\d{0,3}(x4fsr?)?)|RaBitQ(fs)?[2-9]?)"
_REFINED = r"(,RFlat|,Refine\(SQ(8|6|fp16|bf16)\))?"
_GRAPH = r"HNSW([2-9]|[1-9]\d{1,2})(,Flat|,SQ8)?"
SUPPORTED = re.compile(f"{_TRANSFORM}{_LISTS}{_HELD}{_REFINED}|{_GRAPH}")
"""Not all that FAISS can parse: some strings drop the inner product (HNSW16,PQ8; L2norm,Flat), and some end the process
when candidates are added (HNSW0) or never end (OPQ to more dimensions than there are)."""
FEW = 20_000
"""Candidates below which looking at all of them is quick: what `auto` does."""
FEWEST_FOR_CODES = 1_000
"""Candidates below which no preset but `hnsw` does more than look at all: there is nothing to train on."""
COMPRESSED_CODES = 56
"""Bytes of a code of `compressed` at most: with the 8 bytes of FAISS's number, 64 a candidate."""
COMPRESSED_AXES, NEAR = 48, 0.95
"""Where so many axes hold this share of the variance, `compressed` holds a byte of each and drops the rest: of 100,000
clustered vectors (0.98) 56 bytes find 0.963 of the best 100, and two axes a code 0.950 in 64; of `sift-5k` (0.88) they
would find 0.911 and not 0.932."""
SAMPLED = 20_000
"""Vectors that axes are looked for in."""
OPQ_ROUNDS, OPQ_VECTORS = 8, 20_000
"""Rounds that a rotation is trained for, and on how many vectors; FAISS's own 50 rounds take minutes."""


def factory_for(settings: config.Index, values_ND: Float32Array) -> str:
    """The configured factory string, or that of the configured preset for these vectors."""
    size, dim = values_ND.shape
    asked = settings.faiss_factory is None and settings.faiss_preset == "compressed"
    if asked and size >= FEWEST_FOR_CODES and dim > COMPRESSED_AXES and lie_near(values_ND, COMPRESSED_AXES):
        return f"OPQ{COMPRESSED_AXES}_{COMPRESSED_AXES},IVF{_lists(size)},PQ{COMPRESSED_AXES}"
    return factory_of(settings, size, dim)


def lie_near(values_ND: Float32Array, num_axes: int) -> bool:
    """Whether so many axes hold nearly all of the variance; what all vectors share moves a query's scores alike."""
    sample = values_ND[:: max(1, len(values_ND) // SAMPLED)]
    variances_D = np.linalg.eigvalsh(np.cov(sample, rowvar=False, dtype=np.float64))
    return bool(variances_D[-num_axes:].sum() >= NEAR * variances_D.sum())


def factory_of(settings: config.Index, size: int, dim: int) -> str:
    """The configured factory string, or that of the preset for N candidates of width D, whatever they are."""
    if settings.faiss_factory is not None:
        return settings.faiss_factory
    if settings.faiss_preset == "auto":
        return "Flat" if size < FEW else PRESETS["fastscan"](size, dim)
    if settings.faiss_preset != "hnsw" and size < FEWEST_FOR_CODES:
        return "Flat"
    return PRESETS[settings.faiss_preset](size, dim)


def made(factory: str, dim: int) -> Any:
    """Make an index, empty and untrained, for the inner product.

    Raises:
        UserError: a string that is not supported, or does not go with the width.
    """
    where, todo = "index.faiss_factory", f"use {EXAMPLES}; the number after PQ divides the width"
    matched = SUPPORTED.fullmatch(factory)
    if not matched or (matched["opq"] and not matched["pq"]):
        raise UserError(f"{factory!r} is no factory string that is supported", where=where, todo=todo)
    if int(matched["width"] or 0) > dim:
        raise UserError(f"{factory!r} turns width {dim} into more", where=where, todo=f"use OPQ to at most {dim}")
    try:
        index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        what = f"FAISS does not make {factory!r} for vectors of width {dim} ({reason(error)})"
        raise UserError(what, where=where, todo=todo) from None
    for part in parts(index):
        assert part.metric_type == faiss.METRIC_INNER_PRODUCT, f"{factory} drops the metric"
        _set_training(part)
    _set_rotation(index)
    return index


def reason(error: RuntimeError) -> str:
    """FAISS's own words, without the C++ signature and source line before them."""
    return str(error).rpartition("Error: ")[2].rpartition(".cpp:")[2].lstrip("0123456789: ")


def _set_training(index: Any) -> None:
    """Train quietly and without ordering the codes.

    With few vectors FAISS warns on stderr, once for every block of a codebook. By default it also orders the codes so
    that a Hamming distance could prefilter them (polysemous codes), a minute for 6,000 vectors, and never used here.
    """
    if isinstance(index, faiss.IndexPQ | faiss.IndexIVFPQ):
        index.do_polysemous_training = False  # type: ignore[union-attr]
    for clustering in (getattr(index, "cp", None), getattr(getattr(index, "pq", None), "cp", None)):
        if clustering is not None:
            clustering.min_points_per_centroid = 1


def _set_rotation(index: Any) -> None:
    """Train a rotation in seconds, quietly: it learns by a quantiser of its own, which FAISS lets one give."""
    for part in parts(index):
        if not isinstance(part, faiss.IndexPreTransform):
            continue
        rotation = faiss.downcast_VectorTransform(part.chain.at(0))  # type: ignore[attr-defined]
        if not isinstance(rotation, faiss.OPQMatrix):
            continue
        quantizer = faiss.ProductQuantizer(rotation.d_out, rotation.M, parts(index)[-1].pq.nbits)
        quantizer.cp.min_points_per_centroid = 1
        rotation.pq = quantizer  # A bare pointer: what it points to must live as long as the index.
        index.referenced_objects = [*getattr(index, "referenced_objects", []), quantizer]
        rotation.niter, rotation.niter_pq_0, rotation.max_train_points = OPQ_ROUNDS, OPQ_ROUNDS, OPQ_VECTORS


def _lists(size: int) -> int:
    return max(1, round(math.sqrt(size)))


def _codes(dim: int, at_most: int) -> int:
    """Codes of a product quantiser: the most that divide the width."""
    return max(codes for codes in range(1, max(1, at_most) + 1) if dim % codes == 0)


def _ivfpq(size: int, dim: int, suffix: str = "") -> str:
    """Codes of two dimensions or a few; where the width has no such divisor, a rotation to one that has."""
    codes = _codes(dim, dim // 2)
    if 4 * codes >= dim or dim < 4:
        return f"IVF{_lists(size)},PQ{codes}{suffix}"
    return f"OPQ{dim // 2}_{dim // 2 * 2},IVF{_lists(size)},PQ{dim // 2}{suffix}"


def _opq(size: int, dim: int) -> str:
    codes = max(1, dim // 2)
    return f"OPQ{codes}_{min(2 * codes, dim)},IVF{_lists(size)},PQ{codes}x4fs"


def _compressed(size: int, dim: int) -> str:
    codes = max(1, min(COMPRESSED_CODES, dim // 2))
    return f"OPQ{codes}_{min(2 * codes, dim)},IVF{_lists(size)},PQ{codes}"


PRESETS: Final[Mapping[str, Callable[[int, int], str]]] = {
    "flat": lambda size, dim: "Flat",
    "ivf": lambda size, dim: f"IVF{_lists(size)},Flat",
    "hnsw": lambda size, dim: "HNSW32",
    "ivfpq": _ivfpq,
    "opq": _opq,
    "fastscan": lambda size, dim: _ivfpq(size, dim, "x4fs"),
    "sq8": lambda size, dim: f"IVF{_lists(size)},SQ8",
    "rabitq": lambda size, dim: f"RR{dim},IVF{_lists(size)},RaBitQfs2",
    "compressed": _compressed,
}
"""Name -> factory string for N candidates of width D."""
