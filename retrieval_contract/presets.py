"""Complete named runs. A preset is a function that returns a RunConfig; where a number comes from stands beside it."""

from collections.abc import Callable

from retrieval_contract import config as c
from retrieval_contract.errors import UserError


def simulated() -> c.RunConfig:
    """The seeded simulator: the demo, and a run that needs no data."""
    return c.RunConfig(
        name="simulated",
        source=c.SimulatedSource(),
        query=c.Tower(features=(c.Feature(name="query_id", kind="id", width=32),), feature_dropout=0.3),
        candidate=c.Tower(features=(c.Feature(name="candidate_id", kind="id", width=32),), feature_dropout=0.3),
        model=c.Model(dim=32, candidate_bias=True),
        optimizer=c.Optimizer(kind="adamw", learning_rate=0.01, weight_decay=0.1),
        training=c.Training(epochs=10, batch_size=1_024),
    )


def movielens_100k() -> c.RunConfig:
    """MovieLens 100K on the tutorial's random 80/20 split, training items removed from the ranking."""
    return c.RunConfig(
        name="movielens_100k",
        source=c.MovieLensSource(kind="movielens", variant="100k"),
        split=c.SplitRule(kind="random", validation_fraction=0.0, test_fraction=0.2),
        query=c.Tower(features=(c.Feature(name="query_id", kind="id", width=64),), feature_dropout=0.4),
        candidate=c.Tower(features=(c.Feature(name="candidate_id", kind="id", width=64),), feature_dropout=0.4),
        model=c.Model(dim=64, candidate_bias=True),
        optimizer=c.Optimizer(kind="adamw", learning_rate=0.005, weight_decay=0.1),
        training=c.Training(epochs=30, batch_size=1_024),
    )


PRESETS: dict[str, Callable[[], c.RunConfig]] = {
    "simulated": simulated,
    "movielens_100k": movielens_100k,
}


def preset(name: str) -> c.RunConfig:
    """Look a preset up by name.

    Raises:
        UserError: there is no such preset; all names are listed.
    """
    if name not in PRESETS:
        raise UserError(f"unknown preset {name!r}", where="--preset", todo=f"one of {', '.join(PRESETS)}")
    return PRESETS[name]()
