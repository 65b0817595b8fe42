"""How long an encoded history may be."""

from retrieval_contract.arrays import FeatureArrays
from retrieval_contract.config import RunConfig
from retrieval_contract.errors import UserError


def check_history_lengths(config: RunConfig, features: FeatureArrays) -> None:
    """Make sure that no encoded history is longer than its tower was made for.

    What is cut from raw rows keeps the last L and never comes here too long; arrays made elsewhere may.

    Args:
        config: the run.
        features: encoded query features; a history is [B, any length].

    Raises:
        UserError: more places than `max_length`; the feature and both lengths are named.
    """
    for history in config.query.histories:
        length = features[history.name].shape[1]
        if length > history.max_length:
            raise UserError(
                f"history {history.name!r} has {length} places, and its max_length is {history.max_length}",
                where=f"query feature {history.name!r}",
                todo=f"give the last {history.max_length} candidates, oldest first",
            )
