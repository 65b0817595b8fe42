"""What `build_index --target_recall` and `recommend --all` must do in every stack; part of `VerbsConformance`."""

import json
import shutil
from pathlib import Path
from typing import ClassVar

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest


class TunedVerbs:
    """Tests of a run's index, tuned and used; whoever inherits has the run and the ways to ask."""

    backends: ClassVar[tuple[str, ...]]

    def _code(self, verb: str, *flags: str) -> int:
        raise NotImplementedError

    def _refused(self, capsys, verb: str, *flags: str) -> str:
        raise NotImplementedError

    def _answer(self, capsys, workdir: Path, backend: str) -> list[str]:
        raise NotImplementedError

    def _some_query(self, workdir: Path) -> str:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    def tuned(self, workdir, tmp_path_factory):
        """The run, its index tuned over every backend; deep searches of 120 candidates look at all, so k is small."""
        copy = shutil.copytree(workdir, tmp_path_factory.mktemp("tuned") / "w")
        shutil.rmtree(copy / "index", ignore_errors=True)
        assert self._code("build_index", f"--workdir={copy}", "--target_recall=0.9", "--k=5") == 0
        return copy

    def test_tuning_tries_every_backend_and_keeps_an_index_that_says_its_recall(self, tuned):
        lines = [json.loads(line) for line in (tuned / "index" / "tuning.jsonl").read_text().splitlines()]
        assert {line["settings"]["backend"] for line in lines} == set(self.backends)
        assert not [line for line in lines if "reason" in line], "everything the grid names can be built"
        chosen = json.loads((tuned / "index" / "chosen.json").read_text())["backend"]
        measured = json.loads((tuned / "index" / chosen / "manifest.json").read_text())["measured"]
        assert 0.9 <= measured["recall"]["low"] <= measured["recall"]["value"] <= measured["recall"]["high"] <= 1
        assert measured["k"] == 5 and measured["num_queries"] >= 20
        assert {"tuning.md", "tuning.svg"} <= {path.name for path in (tuned / "index").iterdir()}

    def test_what_tuning_chose_answers_until_an_index_that_was_not_measured_takes_its_place(
        self, tuned, tmp_path, capsys
    ):
        copy = shutil.copytree(tuned, tmp_path / "copy")
        query = f"--query_id={self._some_query(copy)}"
        (copy / "index" / "chosen.json").write_text(json.dumps({"backend": self.backends[-1]}))
        assert (
            self._code("build_index", f"--workdir={copy}", f"--backend={self.backends[-1]}", "--target_recall=0.5") == 0
        )
        capsys.readouterr()
        assert self._code("recommend", f"--workdir={copy}", query) == 0
        assert f", {self.backends[-1]} search" in capsys.readouterr().out
        assert self._code("recommend", f"--workdir={copy}", query, "--set=index.backend=exact") == 0
        assert ", exact search" in capsys.readouterr().out
        assert self._code("build_index", f"--workdir={copy}", f"--backend={self.backends[-1]}") == 0
        assert "tuned is replaced" in capsys.readouterr().out
        assert self._code("recommend", f"--workdir={copy}", query) == 0
        assert ", exact search" in capsys.readouterr().out, "the run's own index.backend"

    def test_tuning_that_cannot_be_is_refused_and_nothing_is_replaced(self, tuned, capsys):
        before = {path: path.read_bytes() for path in (tuned / "index").glob("*/manifest.json")}
        flags = (f"--workdir={tuned}", "--k=5")
        assert self._code("build_index", *flags, "--target_recall=0.9", "--max_bytes=1") == 2
        assert "within 1 bytes; with more memory: " in capsys.readouterr().err.splitlines()[-1], "behind the progress"
        assert "--k goes with --target_recall" in self._refused(capsys, "build_index", *flags)
        assert "recall of 2" in self._refused(capsys, "build_index", *flags, "--target_recall=2")
        assert {path: path.read_bytes() for path in (tuned / "index").glob("*/manifest.json")} == before

    def test_every_query_is_answered_in_one_file_as_it_is_alone(self, tuned, tmp_path, capsys):
        out = tmp_path / "all.parquet"
        flags = (f"--workdir={tuned}", "--k=10", "--exclude_seen", "--backend=exact")
        assert self._code("recommend", *flags, "--all", f"--out={out}") == 0
        assert " queries by exact search in " in capsys.readouterr().out
        table = pq.read_table(out)
        own = pc.equal(table["query_id"], self._some_query(tuned))
        assert table.filter(own)["candidate_id"].to_pylist() == self._answer(capsys, tuned, "exact")
        assert len(set(table["query_id"].to_pylist())) == 100 and len(table) == 1_000
        wrong = {
            "the file exists": ("--all", f"--out={out}"),
            "--out is missing": ("--all",),
            "both given": ("--all", f"--out={out}", "--query_id=x"),
            "--out goes with --all": (f"--out={out}", "--query_id=x"),
            "nothing to resume": ("--all", f"--out={out}", "--resume"),
        }
        for message, words in wrong.items():
            assert message in self._refused(capsys, "recommend", *flags, *words)
