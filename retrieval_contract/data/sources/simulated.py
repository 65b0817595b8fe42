"""The source `simulated`: interactions drawn from a population whose true probabilities are known."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from retrieval_contract.arrays import Int64Array
from retrieval_contract.config import SimulatedSource
from retrieval_contract.data.sources.population import (
    AGES,
    COLD_FROM,
    COUNTRIES,
    GENDERS,
    SPAN,
    START,
    Catalogue,
    Choice,
    Float64Array,
    People,
    candidate_ids,
    chunks,
    draw_catalogue,
    draw_people,
    query_ids,
    share_gone,
    stream,
)
from retrieval_contract.data.sources.raw import CANDIDATE_ID, QUERY_ID, TIME, RawData

CHUNK_CELLS = 2**21
"""Rows times interests handled at once; bounds the memory of a large draw."""
GENRES = (
    "action", "adventure", "animation", "comedy", "crime", "documentary", "drama", "fantasy", "history", "horror",
    "music", "mystery", "romance", "science", "sport", "thriller", "travel", "war", "western", "family",
)  # fmt: skip
MOODS = (
    "Quiet",
    "Golden",
    "Broken",
    "Distant",
    "Last",
    "Hidden",
    "Wild",
    "Silver",
    "Second",
    "Endless",
    "Pale",
    "Early",
)
THINGS = (
    "River",
    "Harbour",
    "Letter",
    "Garden",
    "Signal",
    "Winter",
    "Bridge",
    "Orchard",
    "Mirror",
    "Station",
    "Island",
)


def load(source: SimulatedSource, *, seed: int) -> RawData:
    """Draw a data set; the same source and seed give the same bytes.

    Rows are drawn independently from `Choice`, so a query may meet a candidate twice, as viewers do. Rows are in order
    of time. Time runs evenly over 180 days for most, and over the last tenth for cold queries; cold candidates are
    drawn from then on. How a row was liked follows from how well the candidate fits the query and from its appeal.
    """
    people, catalogue = draw_people(source, seed), draw_catalogue(source, seed)
    choice = Choice(source, people, catalogue)
    query_rows, times = _who_and_when(source, people, seed)
    candidate_rows, fits = _draw_candidates(choice, catalogue, query_rows, times, stream(seed, "choice"))
    queries, candidates = _query_table(people), _candidate_table(catalogue)
    interactions = pa.table(
        {
            QUERY_ID: queries[QUERY_ID].combine_chunks().take(pa.array(query_rows)),
            CANDIDATE_ID: candidates[CANDIDATE_ID].combine_chunks().take(pa.array(candidate_rows)),
            TIME: times,
            **_feedback(fits + 0.5 * catalogue.appeal[candidate_rows], stream(seed, "feedback")),
        }
    )
    return RawData(
        interactions=interactions,
        queries=queries,
        candidates=candidates,
        truth=choice,
        has_timestamps=True,
        notes=(),
    )


def _who_and_when(source: SimulatedSource, people: People, seed: int) -> tuple[Int64Array, Int64Array]:
    """Query rows and Unix seconds, in order of time."""
    random = stream(seed, "who and when")
    cumulative_Q = np.cumsum(people.activity)
    uniform = random.random(source.num_interactions) * cumulative_Q[-1]
    rows = np.minimum(np.searchsorted(cumulative_Q, uniform, side="right"), source.num_queries - 1)
    first = np.where(people.cold[rows], COLD_FROM, 0.0)
    # Rounded up, so that no cold query appears in the second before the last tenth.
    times = START + np.ceil((first + (1 - first) * random.random(len(rows))) * SPAN).astype(np.int64)
    order = np.argsort(times, kind="stable")
    return rows[order], times[order]


def _draw_candidates(
    choice: Choice, catalogue: Catalogue, query_rows: Int64Array, times: Int64Array, random: np.random.Generator
) -> tuple[Int64Array, Float64Array]:
    """Candidate rows, and how well each fits its query: log p(j | q, t) - log of the mean over interests, in nats."""
    candidate_rows, fits = np.empty(len(times), np.int64), np.empty(len(times))
    for part in chunks(len(times), CHUNK_CELLS // catalogue.served.shape[1]):
        gone = share_gone(times[part])
        period = (gone >= COLD_FROM).astype(np.int64)
        interests_BK = choice.interests(query_rows[part], gone)
        drawn = choice.tables.draw(interests_BK, period, random.random((len(gone), 2)))
        candidate_rows[part], fits[part] = drawn, choice.tables.fits(interests_BK, period, drawn)
    return candidate_rows, fits


def _feedback(liking: Float64Array, random: np.random.Generator) -> dict[str, pa.Array]:
    """Rating 1 to 5, watched fraction, liked, shared: noisy steps of one liking."""
    felt = liking - liking.mean() + 0.7 * random.standard_normal(len(liking))
    watched = 1 / (1 + np.exp(-(0.3 + 1.2 * felt + 0.6 * random.standard_normal(len(felt)))))
    return {
        "rating": pa.array(np.clip(np.rint(3.5 + felt), 1, 5).astype(np.float32)),
        "watched_fraction": pa.array(watched.astype(np.float32)),
        "liked": pa.array(felt + 0.5 * random.standard_normal(len(felt)) > 0.8),
        "shared": pa.array(felt + 0.8 * random.standard_normal(len(felt)) > 2.0),
    }


def _query_table(people: People) -> pa.Table:
    columns = {QUERY_ID: pa.array(query_ids(len(people.cold)))}
    for name, values in (("gender", GENDERS), ("age", AGES), ("country", COUNTRIES)):
        columns[name] = pa.array(values).take(pa.array(people.demographics[name]))
    return pa.table(columns)


def _candidate_table(catalogue: Catalogue) -> pa.Table:
    N, num_genres = catalogue.genres.shape
    names = [GENRES[g] if g < len(GENRES) else f"genre {g + 1}" for g in range(num_genres)]
    offsets = np.concatenate([[0], np.cumsum(catalogue.genres.sum(axis=1))]).astype(np.int32)
    flat = pa.array(names).take(pa.array(np.nonzero(catalogue.genres)[1]))
    return pa.table(
        {
            CANDIDATE_ID: pa.array(candidate_ids(N)),
            "title": pa.array(_titles(np.arange(N))),
            "genres": pa.ListArray.from_arrays(pa.array(offsets), flat),
        }
    )


def _titles(rows: Int64Array) -> Sequence[str]:
    """Distinct titles: The Quiet River, and from the second round on The Quiet River 2."""
    mood, thing = np.array(MOODS, object)[rows % len(MOODS)], np.array(THINGS, object)[rows % len(THINGS)]
    # Twelve and eleven have no common divisor, so all pairs come up before one returns.
    again = rows // (len(MOODS) * len(THINGS)) + 1
    return ("The " + mood + " " + thing + np.where(again > 1, " " + again.astype(str).astype(object), "")).tolist()
