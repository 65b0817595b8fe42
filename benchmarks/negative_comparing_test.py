"""Verdicts follow from paired differences, and only lines that belong together are compared."""

import pytest

from benchmarks.negative_comparing import compare
from benchmarks.planted import baselines_line, run_line


def outcomes(lines):
    (found,) = compare(lines, "torch_reference")
    return {outcome.name: outcome for outcome in found.outcomes}


def run(strategy, shift=0.0, *, seeds=(0,), **more):
    """Validation and test lines of a strategy."""
    grid = run_line(strategy, part="validation", **more)
    return [grid, *(run_line(strategy, shift, seed=seed, **more) for seed in seeds)]


def test_a_difference_far_below_both_intervals_is_seen_because_it_is_paired():
    found = outcomes([*run("exact"), *run("mixed", 0.01), *run("bpr", -0.01), *run("bank", 0.0005)])
    verdicts = {name: outcome.differences["mrr"].verdict for name, outcome in found.items() if name != "exact"}
    assert verdicts == {"mixed": "helps", "bpr": "hurts", "bank": "no difference"}
    difference = found["mixed"].differences["recall@10"]
    assert difference.value == pytest.approx(0.01) and difference.percent[0] == pytest.approx(5)
    # Two strategies with a spread of 0.001 each; unpaired it would be 0.07.
    assert difference.high - difference.low == pytest.approx(2 * 1.96 * 0.001 * 2**0.5, rel=0.2)
    assert found["exact"].differences == {} and found["mixed"].metrics["mrr"]["value"] == pytest.approx(0.21)


def test_seeds_must_agree():
    reference = run("exact", seeds=(0, 1))
    one_sign = [*run("mixed", 0.01), run_line("mixed", 0.02, seed=1)]
    two_signs = [*run("mixed", 0.05), run_line("mixed", -0.01, seed=1)]
    agreed = outcomes([*reference, *one_sign])["mixed"]
    assert agreed.num_seeds == 2 and agreed.differences["mrr"].value == pytest.approx(0.015)
    assert agreed.differences["mrr"].verdict == "helps"
    assert outcomes([*reference, *two_signs])["mixed"].differences["mrr"].verdict == "no difference"


def test_only_seeds_of_both_are_compared():
    lines = [*run("exact"), *run("mixed", 0.01), run_line("mixed", 0.5, seed=1)]
    assert outcomes(lines)["mixed"].differences["mrr"].value == pytest.approx(0.01)
    alone = outcomes([*run("mixed", seeds=(1,)), *run("exact")])
    assert alone["mixed"].differences == {}


def test_test_lines_of_another_value_or_budget_or_stack_are_left_out():
    chosen = run("mixed", 0.01)
    lines = [
        *run("exact", 0.3, steps=100),
        *run("exact"),
        run_line("mixed", 0.4, value=0.3),
        *chosen,
        run_line("mixed", 0.6, stack="tfrs_models"),
    ]
    found = outcomes(lines)
    assert found["mixed"].metrics["mrr"]["value"] == pytest.approx(0.21) and found["mixed"].num_seeds == 1
    assert found["mixed"].differences["mrr"].value == pytest.approx(0.01)


def test_the_last_line_of_a_run_counts():
    lines = [*run("exact"), *run("mixed", 0.01), run_line("mixed", -0.02)]
    assert outcomes(lines)["mixed"].differences["mrr"].value == pytest.approx(-0.02)


def test_values_that_are_no_longer_tried_do_not_choose():
    stale = run_line("mixed", 0.0, part="validation", value=0.123)
    stale["metrics"] = {name: {**entry, "value": 0.9} for name, entry in stale["metrics"].items()}
    found = outcomes([*run("exact"), stale, run_line("mixed", 0.7, value=0.123), *run("mixed", 0.01)])
    assert found["mixed"].differences["mrr"].value == pytest.approx(0.01)


def test_failed_cases_edges_and_baselines_are_told():
    failed = run_line("bpr", part="validation", failed="loss nan")
    edge = [run_line("sigmoid", part="validation", value=0.3), run_line("sigmoid", value=0.3)]
    (found,) = compare([baselines_line(), *run("exact"), failed, *edge], "torch_reference")
    by_name = {outcome.name: outcome for outcome in found.outcomes}
    assert found.failed == ["ml-1m, bpr, validation"] and set(by_name) == {"exact", "sigmoid"}
    assert by_name["sigmoid"].at_edge and not by_name["exact"].at_edge and found.reference is by_name["exact"]
    assert set(found.baselines) == {"popularity", "ease"} and found.facts["num_candidates"] == 1_000
