"""Every strategy is a configuration of its own on every data set, and changes loss and negatives alone."""

import pytest

from benchmarks.negative_datasets import DATASETS
from benchmarks.negative_strategies import REFERENCE, STRATEGIES

CHANGED = {"loss", "negatives", "seed"}


@pytest.mark.parametrize("dataset", DATASETS)
def test_all_are_accepted_and_differ(dataset):
    base = DATASETS[dataset].config()
    configs = {
        (name, value): strategy.configured(base, value=value, seed=3)
        for name, strategy in STRATEGIES.items()
        for value in strategy.values
    }
    assert len({config.digest() for config in configs.values()}) == len(configs)
    for (name, value), config in configs.items():
        assert getattr(config.loss, STRATEGIES[name].knob) == value and config.seed == 3
        assert config.model_dump(exclude=CHANGED) == base.model_dump(exclude=CHANGED)


def test_the_reference_is_exact_log_q_alone_and_first():
    base = DATASETS["ml-1m"].config()
    assert next(iter(STRATEGIES)) == REFERENCE
    config = STRATEGIES[REFERENCE].configured(base, value=base.loss.temperature, seed=base.seed)
    assert config == base and base.loss.log_q == "exact"


def test_each_is_tuned_over_several_values_in_order():
    assert all(sorted(set(s.values)) == list(s.values) and len(s.values) >= 4 for s in STRATEGIES.values())
