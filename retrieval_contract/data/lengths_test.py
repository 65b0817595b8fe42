import numpy as np
import pytest

from retrieval_contract.config import HistoryFeature, IdFeature, RunConfig, Tower
from retrieval_contract.data.lengths import check_history_lengths
from retrieval_contract.errors import UserError


def test_a_history_longer_than_its_tower_is_refused_with_both_lengths():
    history = HistoryFeature(name="watched", max_length=3)
    config = RunConfig(query=Tower(features=(history,)), candidate=Tower(features=(IdFeature(name="candidate_id"),)))
    check_history_lengths(config, {"watched": np.zeros((2, 3), np.int32)})
    with pytest.raises(UserError, match="history 'watched' has 4 places, and its max_length is 3"):
        check_history_lengths(config, {"watched": np.zeros((2, 4), np.int32)})
