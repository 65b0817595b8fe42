"""What every stack's verbs must do, as a test class that each stack subclasses with its own name.

It runs the verbs as a person would: a small run trained once per class in a process of its own, with the other stack's
frameworks blocked, then questions asked of it.
"""

import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from retrieval_contract.config_text import read_config
from retrieval_contract.data.prepare import prepare
from retrieval_contract.files import versions
from retrieval_contract.manifest import read_manifest
from retrieval_contract.runs.checkpoints import checkpoint_paths
from retrieval_contract.verbs import build_index, embed, evaluate, export, recommend, train
from retrieval_contract.verbs.command import exit_code
from retrieval_contract.verbs.tuning_conformance import TunedVerbs
from retrieval_contract.weights.archive import read_arrays, write_weights

BODIES = {
    "train": train.run,
    "evaluate": evaluate.run,
    "embed": embed.run,
    "build_index": build_index.run,
    "recommend": recommend.run,
    "export": export.run,
}
SMALL = (
    "--preset=simulated",
    "--batch_size=64",
    "--set=source.num_interactions=2000",
    "--set=source.num_queries=100",
    "--set=source.num_candidates=120",
    "--set=evaluation.bootstrap_samples=50",
)
BANK = (
    "--set=loss.log_q=streaming",
    "--set=loss.learn_temperature=true",
    "--set=negatives.bank.num_batches=3",
    "--set=negatives.bank.warmup_steps=4",
    "--set=negatives.bank.momentum=0.9",
)
MINED = (
    "--set=negatives.mined.per_example=1",
    "--set=negatives.mined.hard_fraction=0.5",
    "--set=negatives.mined.first_rank=2",
    "--set=negatives.mined.last_rank=20",
    "--set=negatives.sampled=16",
    "--set=negatives.mask_known_positives=true",
)
GOES_ON = {
    "streaming, bank, momentum, learned temperature": BANK,
    "mined, sampled, known positives, cached gradients": (*MINED, "--set=training.chunk_size=16"),
}
"""Settings of everything that goes on from step to step beside weights and slots."""
_BLOCKED_RUN = """
import sys, runpy
for name in {blocked!r}:
    sys.modules[name] = None
sys.argv = ["train", *sys.argv[1:]]
runpy.run_module({module!r}, run_name="__main__")
"""


class VerbsConformance(TunedVerbs):
    """Subclass it as `TestVerbs` with the stack's name and the other stack's imports."""

    stack_name: ClassVar[str]
    blocked: ClassVar[tuple[str, ...]]
    """Modules of the other stack, which must never be imported."""
    backends: ClassVar[tuple[str, ...]]

    @pytest.fixture(scope="class")
    def workdir(self, tmp_path_factory):
        """A small run, trained with the other stack's frameworks blocked."""
        folder = tmp_path_factory.mktemp("run") / "w"
        done = self._process("train", folder, *SMALL, "--epochs=2")
        assert done.returncode == 0, done.stderr
        return folder

    def _process(self, verb: str, folder: Path, *flags: str) -> subprocess.CompletedProcess:
        return subprocess.run(self._words(verb, folder, *flags), capture_output=True, text=True, check=False)

    def _words(self, verb: str, folder: Path, *flags: str) -> list[str]:
        program = _BLOCKED_RUN.format(blocked=self.blocked, module=f"{self.stack_name}.{verb}")
        return [sys.executable, "-c", program, f"--workdir={folder}", *flags]

    def _code(self, verb: str, *flags: str) -> int:
        """Run a verb in this process."""
        stack = __import__(f"{self.stack_name}.stack", fromlist=["STACK"]).STACK
        return exit_code(verb, stack, BODIES[verb], flags)

    def _refused(self, capsys, verb: str, *flags: str) -> str:
        """The one line with which a verb refuses the user's mistake."""
        capsys.readouterr()
        assert self._code(verb, *flags) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        return lines[0]

    # ------------------------------------------------------------ what a run leaves

    def test_a_run_leaves_everything(self, workdir):
        files = {path.relative_to(workdir).as_posix() for path in workdir.rglob("*") if path.is_file()}
        assert {"config.yaml", "metrics.json", "weights.safetensors", "features.json"} <= files
        assert any(name.startswith("tensorboard/events") for name in files)
        assert any(name.startswith("checkpoints/step_") for name in files)
        assert not [name for name in files if name.rsplit("/", 1)[-1].startswith(".")], "nothing half-written stays"

    def test_metrics_have_the_promised_form(self, workdir):
        report = json.loads((workdir / "metrics.json").read_text())
        assert {"metrics", "baselines", "num_queries", "num_excluded"} <= report.keys()
        assert {"popularity", "ease", "oracle"} <= report["baselines"].keys()
        for row in (report["metrics"], *report["baselines"].values()):
            for name in ("recall@10", "ndcg@10", "mrr", "accuracy@10"):
                assert 0 <= row[name]["low"] <= row[name]["value"] <= row[name]["high"] <= 1

    def test_evaluate_repeats_the_metrics_to_the_byte(self, workdir, tmp_path):
        copy = shutil.copytree(workdir, tmp_path / "copy")
        before = (copy / "metrics.json").read_bytes()
        (copy / "metrics.json").unlink()
        assert self._code("evaluate", f"--workdir={copy}") == 0
        assert (copy / "metrics.json").read_bytes() == before

    def test_the_written_configuration_repeats_the_run(self, workdir, tmp_path):
        again = tmp_path / "again"
        assert self._code("train", f"--workdir={again}", f"--config={workdir / 'config.yaml'}") == 0
        assert (again / "weights.safetensors").read_bytes() == (workdir / "weights.safetensors").read_bytes()

    def test_another_seed_is_another_run(self, workdir, tmp_path):
        other = tmp_path / "other"
        assert self._code("train", f"--workdir={other}", f"--config={workdir / 'config.yaml'}", "--seed=1") == 0
        assert (other / "weights.safetensors").read_bytes() != (workdir / "weights.safetensors").read_bytes()

    def test_every_backend_answers_as_exact_search_does(self, workdir, capsys):
        exact = self._answer(capsys, workdir, "exact")
        assert len(exact) == 10
        for backend in self.backends:
            assert self._code("build_index", f"--workdir={workdir}", f"--backend={backend}") == 0
            assert self._answer(capsys, workdir, backend) == exact

    def test_exclude_seen_leaves_out_what_training_held(self, workdir, capsys):
        prepared = prepare(read_config(workdir / "config.yaml"))
        row = int(prepared.interactions.query_rows[prepared.split.train[0]])
        seen = {prepared.candidates.ids[place] for place in prepared.seen()[row].indices}
        everything = (f"--workdir={workdir}", f"--query_id={prepared.queries.ids[row]}", "--backend=exact", "--k=120")
        answers = []
        for flags in (everything, (*everything, "--exclude_seen")):
            capsys.readouterr()
            assert self._code("recommend", *flags) == 0
            answers.append({line.split()[0] for line in capsys.readouterr().out.splitlines()[2:-1]})
        assert answers[0] == set(prepared.candidates.ids)
        assert answers[1] == answers[0] - seen and seen

    def _answer(self, capsys, workdir: Path, backend: str) -> list[str]:
        capsys.readouterr()
        flags = (f"--query_id={self._some_query(workdir)}", "--k=10", "--exclude_seen", f"--backend={backend}")
        assert self._code("recommend", f"--workdir={workdir}", *flags) == 0
        lines = capsys.readouterr().out.strip().splitlines()
        assert "encoding" in lines[-1] and "searching" in lines[-1] and "formatting" in lines[-1]
        return [line.split()[0] for line in lines[2:-1]]

    def _some_query(self, workdir: Path) -> str:
        prepared = prepare(read_config(workdir / "config.yaml"))
        return prepared.queries.ids[int(prepared.interactions.query_rows[prepared.split.train[0]])]

    def test_embed_writes_every_candidate(self, workdir, tmp_path, capsys):
        copy = shutil.copytree(workdir, tmp_path / "copy")
        assert self._code("embed", f"--workdir={copy}") == 0
        assert "120 vectors" in capsys.readouterr().out

    # ------------------------------------------------------------ a model that serves without this project

    def test_an_exported_version_has_the_next_number_and_names_its_weights(self, workdir, tmp_path):
        (tmp_path / "model" / "6").mkdir(parents=True)
        flags = (f"--workdir={workdir}", "--kind=exact", f"--export_dir={tmp_path / 'model'}")
        assert self._code("export", *flags) == 0
        assert versions(tmp_path / "model") == [6, 7]
        manifest = read_manifest(tmp_path / "model" / "7", export.KIND)
        weights = read_arrays(workdir / "weights.safetensors")[1]
        assert (manifest["stack"], manifest["weights_digest"]) == (self.stack_name, weights["digest"])
        assert manifest["needs"] and manifest["versions"]

    def test_what_cannot_be_exported_is_refused_and_no_version_is_left(self, workdir, tmp_path, capsys):
        (other,) = {"scann", "faiss"} - set(self.backends)
        model = f"--export_dir={tmp_path / 'model'}"
        assert f"exports no kind '{other}'" in self._refused(
            capsys, "export", f"--workdir={workdir}", model, f"--kind={other}"
        )
        strange = shutil.copytree(workdir, tmp_path / "strange")
        arrays, _ = read_arrays(strange / "weights.safetensors")
        write_weights(strange / "weights.safetensors", dict(list(arrays.items())[1:]), config_digest="")
        assert "do not fit the model" in self._refused(capsys, "export", f"--workdir={strange}", model)
        assert versions(tmp_path / "model") == []

    # ------------------------------------------------------------ stopped and resumed

    def test_stopped_by_ctrl_c_and_killed_a_run_resumes_to_the_same_bytes(self, tmp_path):
        flags = (*SMALL, "--epochs=8", "--set=training.checkpoint_every_steps=7", "--set=query.feature_dropout=0.2")
        whole, broken = tmp_path / "whole", tmp_path / "broken"
        assert self._process("train", whole, *flags).returncode == 0
        last = int(checkpoint_paths(whole / "checkpoints")[-1].stem.split("_")[1])
        stops = sorted(random.Random(time.time_ns()).sample(range(1, last * 2 // 3), 2))
        code, said = self._stopped(broken, stops[0], signal.SIGINT, *flags)
        assert code == 130 and "--resume" in said, said
        code, _ = self._stopped(broken, stops[1], signal.SIGKILL, "--resume")
        assert code == -signal.SIGKILL
        assert not (broken / "weights.safetensors").exists()
        assert self._process("train", broken, "--resume").returncode == 0
        for name in ("weights.safetensors", "metrics.json", f"checkpoints/step_{last:09d}.safetensors"):
            assert (broken / name).read_bytes() == (whole / name).read_bytes(), (name, stops)

    @pytest.mark.parametrize("what", list(GOES_ON))
    def test_whatever_goes_on_from_step_to_step_is_resumed_to_the_same_bytes(self, what, tmp_path):
        dropout = ("--set=query.feature_dropout=0.2", "--set=training.checkpoint_every_steps=7")
        flags = (*SMALL, "--epochs=5", *dropout, *GOES_ON[what])
        whole, broken = tmp_path / "whole", tmp_path / "broken"
        assert self._code("train", f"--workdir={whole}", *flags) == 0
        last = int(checkpoint_paths(whole / "checkpoints")[-1].stem.split("_")[1])
        stops = sorted(random.Random(time.time_ns()).sample(range(1, last * 2 // 3), 2))
        assert self._stopped(broken, stops[0], signal.SIGINT, *flags)[0] == 130
        assert self._stopped(broken, stops[1], signal.SIGKILL, "--resume")[0] == -signal.SIGKILL
        assert self._code("train", f"--workdir={broken}", "--resume") == 0
        kept = ("weights.safetensors", "metrics.json", "checkpoints/*", "negatives/*")
        names = {path.relative_to(whole).as_posix() for pattern in kept for path in whole.glob(pattern)}
        assert {path.relative_to(broken).as_posix() for pattern in kept for path in broken.glob(pattern)} == names
        assert ("negatives/epoch_00004.safetensors" in names) == ("mined" in what)
        for name in sorted(names):
            assert (broken / name).read_bytes() == (whole / name).read_bytes(), (name, stops)

    def _stopped(self, folder: Path, step: int, how: signal.Signals, *flags: str) -> tuple[int, str]:
        """Start training, stop it once a checkpoint at or after `step` is on disk."""
        process = subprocess.Popen(
            self._words("train", folder, *flags), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        while process.poll() is None:
            paths = checkpoint_paths(folder / "checkpoints")
            if paths and int(paths[-1].stem.split("_")[1]) >= step:
                os.kill(process.pid, how)
                break
            time.sleep(0.002)
        _, said = process.communicate(timeout=120)
        return process.returncode, said

    # ------------------------------------------------------------ bad input

    def test_an_occupied_workdir_is_not_overwritten_by_accident(self, workdir, capsys):
        before = (workdir / "weights.safetensors").read_bytes()
        assert "already holds a run" in self._refused(capsys, "train", f"--workdir={workdir}", *SMALL)
        assert (workdir / "weights.safetensors").read_bytes() == before

    def test_resume_under_another_configuration_is_refused(self, workdir, capsys):
        line = self._refused(capsys, "train", f"--workdir={workdir}", "--resume", "--set=loss.temperature=0.5")
        assert "loss.temperature" in line

    def test_cutoffs_beyond_the_catalogue_are_refused_before_training(self, tmp_path, capsys):
        flags = (f"--workdir={tmp_path / 'w'}", *SMALL, "--set=evaluation.cutoffs=[10,121]")
        assert "121" in self._refused(capsys, "train", *flags)
        assert not (tmp_path / "w").exists()

    def test_hard_negatives_without_their_index_are_refused_before_training(self, tmp_path, capsys):
        (other,) = {"scann", "faiss"} - set(self.backends)
        flags = (f"--workdir={tmp_path / 'w'}", *SMALL, *MINED)
        line = self._refused(capsys, "train", *flags, f"--set=index.backend={other}")
        assert f"mined from an index, and {self.stack_name} has no backend '{other}'" in line
        assert "would never use them" in self._refused(capsys, "train", *flags, "--epochs=1")
        assert not (tmp_path / "w").exists()

    def test_resume_of_nothing_is_refused(self, tmp_path, capsys):
        line = self._refused(capsys, "train", f"--workdir={tmp_path / 'none'}", "--resume", "--preset=simulated")
        assert "nothing to resume" in line

    def test_an_unknown_query_id_is_refused(self, workdir, capsys):
        assert "nobody" in self._refused(capsys, "recommend", f"--workdir={workdir}", "--query_id=nobody")

    def test_a_query_with_no_history_is_said_and_answered_from_what_is_left(self, workdir, tmp_path, capsys):
        query_id = self._cold_query(workdir)
        capsys.readouterr()
        assert self._code("recommend", f"--workdir={workdir}", f"--query_id={query_id}") == 0
        said = capsys.readouterr()
        assert "no history" in said.err and len(said.out.splitlines()) == 13
        only_history = "--set=query.features=[{name: history, kind: history, width: 32}]"
        bare = tmp_path / "bare"
        flags = (*SMALL, "--epochs=1", only_history, "--set=model.candidate_bias=false")
        assert self._code("train", f"--workdir={bare}", *flags) == 0
        assert "vector is zero" in self._refused(capsys, "recommend", f"--workdir={bare}", f"--query_id={query_id}")

    def _cold_query(self, workdir: Path) -> str:
        """A query without a train row."""
        prepared = prepare(read_config(workdir / "config.yaml"))
        trained = set(prepared.interactions.query_rows[prepared.split.train].tolist())
        return next(id_ for row, id_ in enumerate(prepared.queries.ids) if row not in trained)

    def test_k_larger_than_the_catalogue_is_refused(self, workdir, capsys):
        flags = (f"--workdir={workdir}", f"--query_id={self._some_query(workdir)}", "--k=121", "--backend=exact")
        line = self._refused(capsys, "recommend", *flags)
        assert "121" in line and "120" in line

    def test_a_truncated_weights_file_is_refused(self, workdir, tmp_path, capsys):
        copy = shutil.copytree(workdir, tmp_path / "copy")
        path = copy / "weights.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        assert "weights.safetensors" in self._refused(capsys, "evaluate", f"--workdir={copy}")

    def test_a_flipped_byte_in_the_weights_is_refused(self, workdir, tmp_path, capsys):
        copy = shutil.copytree(workdir, tmp_path / "copy")
        content = bytearray((copy / "weights.safetensors").read_bytes())
        content[-5] ^= 1
        (copy / "weights.safetensors").write_bytes(bytes(content))
        assert "weights.safetensors" in self._refused(capsys, "evaluate", f"--workdir={copy}")

    def test_an_index_of_other_weights_is_refused(self, workdir, tmp_path, capsys):
        stale = shutil.copytree(workdir, tmp_path / "stale")
        backend = self.backends[-1]
        assert self._code("build_index", f"--workdir={stale}", f"--backend={backend}") == 0
        index = stale / "index"
        shutil.move(index, tmp_path / "kept")
        assert self._code("train", f"--workdir={stale}", *SMALL, "--epochs=1", "--overwrite") == 0
        shutil.move(tmp_path / "kept", index)
        flags = (f"--workdir={stale}", f"--query_id={self._some_query(stale)}", f"--backend={backend}")
        assert "other weights" in self._refused(capsys, "recommend", *flags)

    def test_a_warm_start_keeps_old_rows_and_serves_new_candidates(self, workdir, tmp_path, capsys):
        folder = tmp_path / "w"
        more = ("--epochs=1", "--set=source.num_candidates=150", "--set=source.num_queries=110")
        assert self._code("train", f"--workdir={folder}", f"--warm_start={workdir}", *SMALL, *more) == 0
        assert f"warm start from {workdir}" in capsys.readouterr().out
        old, _ = read_arrays(workdir / "weights.safetensors")
        first, _ = read_arrays(checkpoint_paths(folder / "checkpoints")[0])
        assert int(first["step"]) == 0 and not any(first[name].any() for name in first if name.startswith("slots/"))
        for name, array in old.items():
            assert first[f"weights/{name}"][: len(array)].tobytes() == array.tobytes(), name
        table = first["weights/candidate.embedding.candidate_id"]
        new = table[len(old["candidate.embedding.candidate_id"]) :]
        assert len(new) > 10 and (new != table[1]).any(axis=1).all()
        assert len(self._answer(capsys, folder, "exact")) == 10

    def test_a_warm_start_from_nothing_or_from_other_features_is_refused(self, workdir, tmp_path, capsys):
        folder = f"--workdir={tmp_path / 'w'}"
        assert "no run to start from" in self._refused(capsys, "train", folder, "--warm_start=nowhere", *SMALL)
        other = ("--set=candidate.features=[{name: candidate_id, kind: id, width: 32, min_count: 2}]",)
        line = self._refused(capsys, "train", folder, f"--warm_start={workdir}", *SMALL, *other)
        assert "candidate_id" in line and "min_count" in line and not (tmp_path / "w").exists()

    def test_a_backend_of_the_other_stack_names_its_home(self, workdir, capsys):
        (other,) = {"scann", "faiss"} - set(self.backends)
        line = self._refused(capsys, "build_index", f"--workdir={workdir}", f"--backend={other}")
        assert "belongs to" in line

    def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(self, tmp_path, capsys):
        flags = ("--set=optimizer.kind=sgd", "--set=optimizer.weight_decay=0", "--set=optimizer.learning_rate=1e30")
        assert self._code("train", f"--workdir={tmp_path / 'w'}", *SMALL, *flags) == 1
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert "weights did not move" in said
        assert checkpoint_paths(tmp_path / "w" / "checkpoints")
        assert not (tmp_path / "w" / "weights.safetensors").exists()

    def test_a_missing_gpu_is_said(self, workdir, capsys):
        if shutil.which("nvidia-smi"):
            pytest.skip("this machine has a GPU")
        assert "cuda" in self._refused(capsys, "evaluate", f"--workdir={workdir}", "--device=cuda").lower()

    def test_help_goes_to_stdout(self, capsys):
        assert self._code("train", "--help") == 0
        assert f"{self.stack_name}.train" in capsys.readouterr().out


class ReplicasConformance:
    """Subclass it as `TestReplicas`: two real processes on this machine train one run."""

    stack_name: ClassVar[str]

    def launches(self, *flags: str) -> list[tuple[list[str], dict[str, str]]]:
        """Command lines that start two replicas of `train`, with what each needs in its environment; one or two."""
        raise NotImplementedError

    def _started(self, folder: Path, *flags: str) -> list[subprocess.Popen]:
        launches = self.launches(f"--workdir={folder}", *SMALL, *flags)
        piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return [subprocess.Popen(words, env={**os.environ, **own}, **piped) for words, own in launches]

    def _ended(self, processes: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
        """Exit code, stdout and stderr of each; none is left behind."""
        try:
            said = [process.communicate(timeout=300) for process in processes]
        finally:
            for process in processes:
                process.kill()
        return [(process.returncode, *texts) for process, texts in zip(processes, said, strict=True)]

    def test_two_processes_end_on_the_weights_of_one(self, tmp_path):
        # Each process draws dropout of its own, so there is none here.
        still = ("--epochs=2", "--set=query.feature_dropout=0", "--set=candidate.feature_dropout=0")
        flags = (*still, *BANK)
        ended = self._ended(self._started(tmp_path / "two", *flags))
        assert [code for code, _, _ in ended] == [0] * len(ended), ended
        assert sum(out.count("run written to") for _, out, _ in ended) == 1
        stack = importlib.import_module(f"{self.stack_name}.stack").STACK
        assert exit_code("train", stack, train.run, [f"--workdir={tmp_path / 'one'}", *SMALL, *flags]) == 0
        for folder in ("one", "two"):
            assert len(list((tmp_path / folder / "tensorboard").iterdir())) == 1
        one, two = (self._last_state(tmp_path / folder) for folder in ("one", "two"))
        assert one.keys() == two.keys()
        for name, array in one.items():
            # Sums over rows are made in another order: float32 rounding, which the optimiser carries on.
            np.testing.assert_allclose(two[name], array, rtol=1e-4, atol=1e-5, err_msg=name)

    def test_two_processes_stop_together_mine_and_resume_to_the_same_bytes(self, tmp_path):
        whole, broken = tmp_path / "whole", tmp_path / "broken"
        flags = ("--epochs=2", "--set=training.checkpoint_every_steps=7", *MINED)
        ended = self._ended(self._started(whole, *flags))
        assert [code for code, _, _ in ended] == [0] * len(ended), ended
        processes = self._started(broken, *flags)
        while not checkpoint_paths(broken / "checkpoints")[1:] and processes[-1].poll() is None:
            time.sleep(0.01)
        processes[-1].send_signal(signal.SIGINT)
        ended = self._ended(processes)
        assert "go on with --resume" in "".join(err for _, _, err in ended), ended
        assert 0 not in [code for code, _, _ in ended], ended
        assert not (broken / "weights.safetensors").exists()
        ended = self._ended(self._started(broken, *flags, "--resume"))
        assert [code for code, _, _ in ended] == [0] * len(ended), ended
        for name in ("weights.safetensors", "metrics.json", "negatives/epoch_00001.safetensors"):
            assert (broken / name).read_bytes() == (whole / name).read_bytes(), name

    def _last_state(self, folder: Path) -> dict:
        return read_arrays(checkpoint_paths(folder / "checkpoints")[-1])[0]
