from dataclasses import replace

import pytest

from retrieval_contract.errors import UserError
from retrieval_contract.indexes.exact import ExactIndex
from retrieval_contract.runs.opened import open_run
from retrieval_contract.runs.planted import PlantedStack, planted_run
from retrieval_contract.runs.training import train_run
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.verbs.recommend import check_same_catalogue


def test_an_index_whose_rows_are_not_the_datas_is_refused(tmp_path):
    workdir = Workdir(tmp_path / "w")
    train_run(PlantedStack(), planted_run(), workdir, resume=False, overwrite=False)
    opened = open_run(PlantedStack(), planted_run(), workdir)
    vectors = opened.candidate_vectors()
    check_same_catalogue(opened, ExactIndex.build(vectors, opened.config.index))
    swapped = (vectors.ids[1], vectors.ids[0], *vectors.ids[2:])
    fewer = replace(vectors, ids=vectors.ids[1:], values=vectors.values[1:])
    for other in (replace(vectors, ids=swapped), fewer):
        with pytest.raises(UserError, match=r"holds other candidates .* than the data .50.*build_index again"):
            check_same_catalogue(opened, ExactIndex.build(other, opened.config.index))
