"""The page says what the lines say, in words and in a picture."""

import pytest

from benchmarks import negative_report, record
from benchmarks.negative_report import groups, write_report
from benchmarks.planted import baselines_line, run_line
from retrieval_contract.errors import UserError


def _lines(dataset, steps, **shifts):
    lines = [baselines_line(dataset=dataset, steps=steps)]
    for strategy, shift in {"exact": 0.0, **shifts}.items():
        told = {"dataset": dataset, "steps": steps}
        lines += [run_line(strategy, part="validation", **told), run_line(strategy, shift, **told)]
    return lines


@pytest.fixture
def results(tmp_path):
    lines = _lines("ml-1m", 900, mixed=0.02, bpr=-0.15, bank=0.02, mined=0.0)
    lines += _lines("amazon-beauty", 600, mixed=0.02, bpr=-0.02, bank=-0.02, mined=0.2)
    record.append(tmp_path / "negatives.jsonl", lines)
    return tmp_path


def test_page_has_a_table_a_data_set_and_says_what_helps(results):
    found = write_report(results, "torch_reference")
    page = (results / "negatives.md").read_text()
    assert page.count("## What helps") == 2 and "## MovieLens 1M" in page and "## Amazon Beauty" in page
    assert "* Helps on every data set: exact logQ, uniform samples mixed in\n" in page
    assert "* Hurts on every data set: BPR\n" in page
    assert "Exact logQ is not told from popularity by recall@10, not told from popularity by recall@100" in page
    assert "* Helps on some data sets and hurts on others: exact logQ, bank of 4 batches\n" in page
    assert "* Helps on some data sets, no difference on the rest: exact logQ, mined hard negatives\n" in page
    assert "| ▲ +10.0 % |" in page and "*popularity*" in page and "1 seed(s)" in page
    assert found["verdicts"]["recall@100"]["bank"] == {"ml-1m": "helps", "amazon-beauty": "hurts"}
    exact = [row.split(" | ") for row in page.splitlines() if row.startswith("| in-batch, exact logQ |")]
    assert exact and all(len(row) == 11 and row[7:9] == ["3.0", "5.0"] for row in exact)


def test_the_same_lines_give_the_same_bytes(results):
    write_report(results, "torch_reference")
    before = [(results / f"negatives.{ending}").read_bytes() for ending in ("md", "svg")]
    write_report(results, "torch_reference")
    assert [(results / f"negatives.{ending}").read_bytes() for ending in ("md", "svg")] == before
    assert len(before[1]) > 5_000


def test_nothing_shown_is_not_called_help():
    assert groups({"mixed": {"a": "no difference"}, "bank": {"a": "helps", "b": "helps"}, "bpr": {}}) == {
        "No difference to exact logQ shown on any data set": ["exact logQ, uniform samples mixed in"],
        "Helps on every data set": ["exact logQ, bank of 4 batches"],
    }


def test_costs_come_from_their_own_lines(results):
    def line(kind, wall):
        settings = {"stack": "tfrs_models", "figure": "log_q_overhead", "kind": kind}
        return record.line("negative_costs", kind, record.Times(wall=wall, cpu=wall), settings=settings, seed=0)

    rate = record.line("negative_costs", "s", record.Times(wall=[1.0], cpu=[1.0]), settings={}, seed=0)
    lines = [line("plain", [1.0, 2.0, 1.0]), line("corrected", [1.03, 2.06, 1.5]), rate | {"updates_per_second": 7e6}]
    record.append(results / "negative_costs.jsonl", lines)
    write_report(results, "torch_reference")
    page = (results / "negatives.md").read_text()
    assert "| log_q_overhead | tfrs_models |" in page and "+3.0%" in page and "7,000,000 updates" in page


def test_no_lines_is_the_users_mistake(results):
    with pytest.raises(UserError, match=r"benchmarks\.negatives"):
        write_report(results, "tfrs_models")
    with pytest.raises(UserError, match="cannot read"):
        negative_report.write_report(results / "none", "torch_reference")
