"""Every data set's run is one that the configuration accepts, and a missing folder is said in one line."""

import pyarrow.parquet
import pytest

from benchmarks.negative_datasets import DATASETS, shared
from retrieval_contract.errors import UserError

EVERY = pytest.mark.parametrize("dataset", DATASETS.values(), ids=DATASETS)


@EVERY
def test_missing_files_are_named(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("TWO_TOWER_SHARED", str(tmp_path))
    with pytest.raises(UserError, match=rf"{dataset.name}.*parquet.*TWO_TOWER_SHARED"):
        dataset.check()
    folder = tmp_path / "data" / dataset.name
    folder.mkdir(parents=True)
    for file in (dataset.source.interactions, dataset.source.candidates):
        (folder / file).write_bytes(b"x")
    dataset.check()
    assert dataset.config().source.data_dir == str(folder)


@EVERY
def test_both_towers_meet_without_dense_layers_and_validation_chooses(dataset):
    config = dataset.config()
    assert not config.query.projects_to(config.model.dim) and not config.candidate.projects_to(config.model.dim)
    assert config.evaluation.part == "validation" and config.evaluation.cutoffs == (10, 100)
    assert config.loss.log_q == "exact" and config.model.normalize and not config.model.candidate_bias


@EVERY
def test_columns_are_the_files(dataset):
    folder = shared() / dataset.name
    if not folder.is_dir():
        pytest.skip(f"no {folder}; set TWO_TOWER_SHARED")
    source, attributes = dataset.source, {f.name for f in dataset.candidate.features if f.kind == "multivalent"}
    rows = pyarrow.parquet.read_schema(folder / source.interactions).names
    candidates = pyarrow.parquet.read_schema(folder / source.candidates).names
    assert set(source.columns.values()) <= set(rows)
    assert set(source.candidate_columns.values()) | attributes <= set(candidates)
