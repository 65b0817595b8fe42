"""What every index must do, as a test class: subclass it, name the index class and settings, and state its recall.

Truth is planted (known by construction) or computed here in float64 by sorting everything, never by the code under
test. Recall is asked of the proposals as well as of the answers: answers alone would be right even if the backend
proposed nothing, since an index then looks at all candidates.

Letters: B queries, N candidates, D width, K results, M candidates proposed.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from retrieval_contract import config
from retrieval_contract.arrays import Float32Array, TopK
from retrieval_contract.errors import UserError
from retrieval_contract.indexes.planted import (
    DIGEST,
    SIFT,
    Case,
    assert_same,
    clustered,
    planted_attributes,
    recall,
    sift_case,
    vectors_of,
)
from retrieval_contract.indexes.protocol import Index


class IndexConformance:
    """Subclass it as `Test…`; the tests are in the order: answers, exclusions, refusals, saving."""

    index_class: ClassVar[type[Index]]
    settings: ClassVar[config.Index]
    least_recall: ClassVar[float] = 1.0
    """Recall@10 of proposals and of answers on clustered vectors."""
    least_recall_sift: ClassVar[float] = 1.0
    """Recall@100 of answers on real SIFT descriptors."""
    proposes: ClassVar[bool] = True
    """False for an index that leaves every query to the search of all candidates."""
    smallest: ClassVar[int] = 1
    """Candidates below which the settings cannot be met."""

    def build(self, values_ND: Float32Array, queries_BD: Float32Array) -> Case:
        """Build the index under test."""
        index = self.index_class.build(vectors_of(values_ND), self.settings, planted_attributes(len(values_ND)))
        return Case(index, values_ND, queries_BD)

    @pytest.fixture(scope="class")
    def case(self) -> Case:
        """6,000 clustered candidates, 40 queries."""
        return self.build(*clustered(6_000, 40))

    @pytest.fixture(scope="class")
    def small(self) -> Case:
        """600 candidates whose scores are planted: for query b they are a permutation of 0 to 599, divided by 64."""
        generator = np.random.default_rng(3)
        values_ND = np.stack([generator.permutation(600) for _ in range(16)], axis=1) / np.float32(64)
        return self.build(values_ND.astype(np.float32), np.eye(16, dtype=np.float32))

    @pytest.fixture
    def saved(self, small: Case, tmp_path: Path) -> Iterator[Path]:
        """The small index, saved."""
        small.index.save(tmp_path / "saved")
        yield tmp_path / "saved"

    # ------------------------------------------------------------ answers

    def test_states_what_it_holds(self, case: Case) -> None:
        index = case.index
        assert (index.size, index.dim, index.weights_digest) == (6_000, 32, DIGEST)
        assert index.ids == vectors_of(case.values_ND).ids

    @pytest.mark.parametrize("k", [300, 599, 600])
    def test_planted_order(self, small: Case, k: int) -> None:
        found = small.search(k)
        np.testing.assert_array_equal(found.scores, np.tile((599 - np.arange(k)) / 64, (16, 1)))
        np.testing.assert_array_equal(small.values_ND[found.rows, np.arange(16)[:, None]], found.scores)

    def test_recall_of_proposals(self, case: Case) -> None:
        if not self.proposes:
            pytest.skip("this index proposes nothing: it looks at all candidates")
        rows_BM = case.index._propose(case.queries_BD, 16, None).rows
        assert rows_BM.shape[1] < case.index.size / 10
        assert recall(rows_BM, case.truth(10).rows) >= self.least_recall

    def test_recall_of_answers(self, case: Case) -> None:
        found, true = case.search(10), case.truth(10)
        assert recall(found.rows, true.rows) >= self.least_recall
        if self.least_recall == 1.0:
            assert_same(found, true)

    @pytest.mark.parametrize("k", [1, 10, 250, 1_000])
    def test_answers_are_distinct_sorted_inner_products(self, case: Case, k: int) -> None:
        found = case.search(k)
        assert found.rows.dtype == np.int32 and found.scores.dtype == np.float32
        assert found.rows.shape == found.scores.shape == (40, k)
        assert all(len(set(rows)) == k for rows in found.rows.tolist())
        assert (np.diff(found.scores, axis=1) <= 0).all()
        scores_BK = np.einsum("bd,bkd->bk", case.queries_BD, case.values_ND[found.rows], dtype=np.float64)
        np.testing.assert_array_equal(found.scores, scores_BK.astype(np.float32))

    def test_equal_candidates_come_in_order_of_rows(self) -> None:
        values_ND, queries_BD = clustered(1_000, 8)
        thrice = self.build(np.concatenate([values_ND] * 3), queries_BD)
        rows_BKC = thrice.search(30).rows.reshape(8, 10, 3)
        np.testing.assert_array_equal(np.diff(rows_BKC, axis=2), 1_000)

    def test_a_tie_across_the_last_place_goes_to_the_smaller_rows(self) -> None:
        _, queries_BD = clustered(1_000, 8)
        constant = self.build(np.ones((1_000, 32), np.float32), queries_BD)
        np.testing.assert_array_equal(constant.search(20).rows, np.tile(np.arange(20), (8, 1)))

    @pytest.mark.parametrize("k", [1, 10, 300])
    def test_several_vectors_a_query_give_the_best_of_all_once(self, case: Case, k: int) -> None:
        # Neighbouring queries lie in several clusters; one of them twice, so that all its candidates are copies.
        interests_BID = np.stack([case.queries_BD, np.roll(case.queries_BD, 1, axis=0), case.queries_BD], axis=1)
        generator = np.random.default_rng(2)
        excluded = [generator.choice(6_000, 5 * place, replace=False).astype(np.int32) for place in range(40)]
        several = Case(case.index, case.values_ND, interests_BID)
        found, true = several.search(k, excluded), several.truth(k, excluded)
        assert all(len(set(rows)) == k for rows in found.rows.tolist())
        assert recall(found.rows, true.rows) >= self.least_recall
        if self.least_recall == 1.0:
            assert_same(found, true)

    def test_ties_between_vectors_of_a_query_go_to_the_smaller_rows(self, small: Case) -> None:
        interests_BID = np.stack([small.queries_BD, np.roll(small.queries_BD, 5, axis=0)], axis=1)
        several = Case(small.index, small.values_ND, interests_BID)
        # A backend that approximates may overlook one where it is asked for few.
        for k in (300, 599, 600) if self.proposes else (1, 2, 7, 300, 600):
            assert_same(several.search(k), several.truth(k))

    def test_one_vector_in_the_form_of_several_is_searched_alike(self, case: Case) -> None:
        alone = Case(case.index, case.values_ND, case.queries_BD[:, None])
        assert_same(alone.search(10), case.search(10))

    def test_no_queries_give_no_answers(self, case: Case) -> None:
        for queries in (case.queries_BD[:0], np.zeros((0, 3, 32), np.float32)):
            found = Case(case.index, case.values_ND, queries).search(7, [])
            assert found.rows.shape == found.scores.shape == (0, 7)

    def test_many_queries_at_once(self, case: Case) -> None:
        many = Case(case.index, case.values_ND, np.tile(case.queries_BD, (10, 1)))
        assert recall(many.search(10).rows, many.truth(10).rows) >= self.least_recall

    def test_smallest_catalogue(self) -> None:
        values_ND, queries_BD = clustered(1_000, 4)
        tiny = self.build(values_ND[: self.smallest], queries_BD)
        assert_same(tiny.search(self.smallest), tiny.truth(self.smallest))
        if self.smallest > 1:
            with pytest.raises(UserError, match="does not go with"):
                self.build(values_ND[: self.smallest - 1], queries_BD)

    def test_inputs_are_not_written(self) -> None:
        values_ND, queries_BD = clustered(1_000, 4)
        excluded = [np.array([5, 5, 1], np.int32)] * 4
        inputs = (values_ND, queries_BD, excluded[0])
        before = [array.copy() for array in inputs]
        for array in inputs:
            array.flags.writeable = False
        self.build(values_ND, queries_BD).search(500, excluded)
        for array, copy in zip(inputs, before, strict=True):
            np.testing.assert_array_equal(array, copy)

    def test_recall_on_real_vectors(self) -> None:
        if not SIFT.is_dir():
            pytest.skip(f"no {SIFT}; set TWO_TOWER_SHARED to the folder of shared data")
        sift, true_rows_BK = sift_case(self.build)
        found = sift.search(100)
        if self.least_recall_sift == 1.0:
            np.testing.assert_array_equal(found.rows, true_rows_BK)
        assert recall(found.rows, true_rows_BK) >= self.least_recall_sift

    # ------------------------------------------------------------ exclusions

    def test_excluded_candidates_never_come_and_k_others_do(self, case: Case) -> None:
        # The best ones, a different number for each query: that is what excluding the seen ones does.
        best = case.truth(400).rows
        excluded = [np.tile(rows[: 10 * place], 2) for place, rows in enumerate(best)]
        found, true = case.search(10, excluded), case.truth(10, excluded)
        assert not any(set(rows) & set(out.tolist()) for rows, out in zip(found.rows.tolist(), excluded, strict=True))
        assert (found.rows >= 0).all()
        assert recall(found.rows, true.rows) >= self.least_recall

    def test_all_but_few_and_all_excluded(self, case: Case) -> None:
        everything = np.random.default_rng(0).permutation(6_000).astype(np.int32)
        lists = [everything[:0], everything, everything[3:], everything[10:], everything[11:]]
        five = Case(case.index, case.values_ND, case.queries_BD[:5])
        found, true = five.search(10, lists), five.truth(10, lists)
        np.testing.assert_array_equal((found.rows >= 0).sum(axis=1), [10, 0, 3, 10, 10])
        np.testing.assert_array_equal(np.isneginf(found.scores), found.rows == -1)
        np.testing.assert_array_equal(found.rows[1:], true.rows[1:])

    def test_excluding_nothing_changes_nothing(self, case: Case) -> None:
        assert_same(case.search(10, [np.empty(0, np.int32)] * 40), case.search(10))

    @pytest.mark.parametrize("row", [-1, 6_000])
    def test_an_excluded_row_that_does_not_exist_is_refused(self, case: Case, row: int) -> None:
        with pytest.raises(UserError, match=f"row {row:,} is outside 0 to 5,999"):
            case.search(3, [np.array([row], np.int32)] * 40)

    def test_another_number_of_exclusions_is_refused(self, case: Case) -> None:
        with pytest.raises(UserError, match="39 lists of excluded candidates for 40 queries"):
            case.search(3, [np.empty(0, np.int32)] * 39)

    # ------------------------------------------------------------ filters

    @pytest.mark.parametrize("share", ["half", "seventh", "rare", "rare and odd", "nothing"])
    def test_filtered_answers_are_those_of_exact_search_with_the_filter(self, case: Case, share: str) -> None:
        wanted, rows = {
            "half": ({"parity": ["even"]}, np.arange(0, 6_000, 2)),
            "seventh": ({"week": ["3"]}, np.arange(3, 6_000, 7)),
            "rare": ({"tags": ["rare"]}, np.arange(5, 6_000, 1_000)),
            "rare and odd": ({"tags": ["rare"], "parity": ["odd"]}, np.arange(5, 6_000, 1_000)),
            "nothing": ({"tags": ["rare"], "parity": ["even"]}, np.arange(0)),
        }[share]
        allowed_BN = np.zeros((40, 6_000), np.bool_)
        allowed_BN[:, rows] = True
        best = case.truth(5, allowed_BN=allowed_BN).rows
        excluded = [row[row >= 0] for row in best]
        found = case.search(10, excluded, [wanted] * 40)
        true = case.truth(10, excluded, allowed_BN)
        np.testing.assert_array_equal(found.rows >= 0, true.rows >= 0)
        assert np.isin(found.rows[found.rows >= 0], rows).all()
        if (true.rows >= 0).all():
            assert recall(found.rows, true.rows) >= self.least_recall
        else:
            assert_same(found, true)

    def test_queries_with_different_filters_are_searched_together(self, case: Case) -> None:
        wanted = [None, {"parity": ["odd"]}, {"week": ["1", "2"]}, {}] * 10
        allowed = case.index.attributes.allowed({"week": ["0", "1", "2"]})
        found = case.search(10, None, wanted, allowed)
        assert np.isin(found.rows % 7, [0, 1, 2]).all()
        assert (found.rows[1::4] % 2 == 1).all() and np.isin(found.rows[2::4] % 7, [1, 2]).all()
        for place in range(4):
            at = slice(place, None, 4)
            part = Case(case.index, case.values_ND, case.queries_BD[at])
            assert_same(part.search(10, None, wanted[at], allowed), TopK(rows=found.rows[at], scores=found.scores[at]))

    def test_unknown_attributes_and_another_number_of_filters_are_refused(self, case: Case) -> None:
        with pytest.raises(UserError, match=r"no attribute 'party' to filter by .filters.: did you mean 'parity'"):
            case.search(3, None, [{"party": ["odd"]}] * 40)
        with pytest.raises(UserError, match="39 filters for 40 queries"):
            case.search(3, None, [None] * 39)

    # ------------------------------------------------------------ refusals

    @pytest.mark.parametrize("k", [0, -1, 601])
    def test_k_outside_the_catalogue_is_refused(self, small: Case, k: int) -> None:
        with pytest.raises(UserError, match=f"k is {k}, the catalogue holds 600"):
            small.search(k)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_queries_that_are_not_finite_are_refused(self, small: Case, bad: float) -> None:
        queries_BD = small.queries_BD.copy()
        queries_BD[3, 2] = bad
        with pytest.raises(UserError, match=r"query vectors hold NaN or infinity .rows 3."):
            Case(small.index, small.values_ND, queries_BD).search(2)

    def test_scores_that_would_overflow_are_refused(self, small: Case) -> None:
        with pytest.raises(UserError, match="overflow"):
            Case(small.index, small.values_ND, small.queries_BD * np.float32(3e38)).search(2)

    def test_queries_of_other_weights_are_refused(self, small: Case) -> None:
        with pytest.raises(UserError, match=r"built from other weights .index dddddddddddd, queries eeeeeeeeeeee."):
            small.index.search(small.queries_BD, 2, weights_digest="e" * 64)

    @pytest.mark.parametrize("shape", [(2, 15), (16,), (1, 2, 15), (1, 0, 16), (1, 1, 1, 16)])
    def test_queries_of_another_shape_are_refused(self, small: Case, shape: tuple[int, ...]) -> None:
        with pytest.raises(UserError, match="vectors of width 16"):
            small.index.search(np.ones(shape, np.float32), 2, weights_digest=DIGEST)

    def test_candidates_that_are_not_finite_are_refused(self) -> None:
        values_ND, queries_BD = clustered(1_000, 4)
        values_ND[[4, 900], 1] = np.nan
        with pytest.raises(UserError, match=r"candidate vectors hold NaN or infinity .rows 4, 900."):
            self.build(values_ND, queries_BD)

    # ------------------------------------------------------------ saving

    def test_a_saved_index_answers_the_same_wherever_it_lies(
        self, case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        case.index.save(tmp_path / "here")
        shutil.move(tmp_path / "here", tmp_path / "elsewhere")
        monkeypatch.chdir("/")
        loaded = self.index_class.load(tmp_path / "elsewhere")
        assert (loaded.ids, loaded.weights_digest) == (case.index.ids, DIGEST)
        again = Case(loaded, case.values_ND, case.queries_BD)
        excluded = [np.arange(100, dtype=np.int32)] * 40
        for k in (10, 300):
            assert_same(again.search(k, excluded), case.search(k, excluded))

    def test_a_loaded_index_saves_again(self, saved: Path, small: Case) -> None:
        self.index_class.load(saved).save(saved)
        assert_same(Case(self.index_class.load(saved), small.values_ND, small.queries_BD).search(9), small.search(9))

    @pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
    def test_a_damaged_file_is_refused(self, saved: Path, harm: str) -> None:
        for path in sorted(inner for inner in saved.rglob("*") if inner.is_file()):
            content = path.read_bytes()
            _harm(path, content, harm)
            with pytest.raises(UserError, match=path.name) as caught:
                self.index_class.load(saved)
            assert "\n" not in str(caught.value)
            path.write_bytes(content)
        self.index_class.load(saved)

    def test_no_folder_and_a_folder_of_something_else_are_refused(self, saved: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no saved index here"):
            self.index_class.load(tmp_path / "nowhere")
        with pytest.raises(UserError, match="holds 'vectors', not 'index'"):
            self.index_class.load(saved / "vectors")

    def test_an_index_of_another_backend_is_refused(
        self, small: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(self.index_class, "backend", "another")
        small.index.save(tmp_path / "other")
        monkeypatch.undo()
        with pytest.raises(UserError, match=f"of backend 'another', not '{self.index_class.backend}'"):
            self.index_class.load(tmp_path / "other")

    def test_a_full_disk_leaves_the_old_index(self, saved: Path, small: Case, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(index: Index, folder: Path) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(self.index_class, "_save", full)
        with pytest.raises(UserError, match="No space left on device"):
            small.index.save(saved)
        assert [path.name for path in saved.parent.iterdir()] == ["saved"]
        assert_same(Case(self.index_class.load(saved), small.values_ND, small.queries_BD).search(9), small.search(9))


def _harm(path: Path, content: bytes, harm: str) -> None:
    if harm == "remove":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
