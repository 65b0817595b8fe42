import errno
import os
import shutil

import pytest

from retrieval_contract.files import versions
from retrieval_contract.manifest import read_manifest
from retrieval_contract.runs.planted import PlantedStack, planted_run
from retrieval_contract.runs.training import train_run
from retrieval_contract.runs.workdir import Workdir
from retrieval_contract.verbs.command import exit_code
from retrieval_contract.verbs.export import KIND, run


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "w"
    run_of_one_epoch = planted_run(training={"epochs": 1})
    train_run(PlantedStack(), run_of_one_epoch, Workdir(folder), resume=False, overwrite=False)
    return folder


def export(workdir, *flags, stack=None):
    return exit_code("export", stack or PlantedStack(), run, [f"--workdir={workdir}", *flags])


def test_a_version_has_a_manifest_over_all_of_it(workdir, tmp_path, capsys):
    model = tmp_path / "model"
    assert [export(workdir, f"--export_dir={model}") for _ in range(2)] == [0, 0]
    assert str(model / "2") in capsys.readouterr().out
    assert versions(model) == [1, 2]
    manifest = read_manifest(model / "2", KIND)
    assert list(manifest["files"]) == ["variables/digest"]
    assert {"stack", "backend", "weights_digest", "config_digest", "size", "dim", "needs"} <= manifest.keys()
    assert (manifest["stack"], manifest["backend"], manifest["size"], manifest["dim"]) == ("planted", "exact", 50, 4)
    assert (model / "2" / "variables" / "digest").read_text() == manifest["weights_digest"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--export_dir is missing"),
        (["--export_dir={folder}/file"], "--export_dir is no folder"),
        (["--export_dir={folder}/m", "--kind=scan"], "planted exports no kind 'scan' [--kind]: here: exact"),
        (["--export_dir={folder}/m", "--workdir={folder}/none"], "no run here: config.yaml is missing"),
    ],
)
def test_bad_flags_are_refused_and_nothing_is_written(workdir, tmp_path, capsys, flags, message):
    (tmp_path / "file").write_text("")
    assert export(workdir, *(flag.format(folder=tmp_path) for flag in flags)) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_kind_is_what_tuning_chose_unless_the_command_says_otherwise(workdir, tmp_path, capsys):
    tuned = shutil.copytree(workdir, tmp_path / "tuned")
    (tuned / "index").mkdir()
    (tuned / "index" / "chosen.json").write_text('{"backend": "faiss"}')
    model = f"--export_dir={tmp_path / 'model'}"
    assert export(tuned, model) == 2
    assert "no kind 'faiss'" in capsys.readouterr().err
    assert export(tuned, model, "--kind=exact") == export(tuned, model, "--set=index.backend=exact") == 0


def test_a_full_disk_leaves_the_versions_there_are(workdir, tmp_path, capsys, monkeypatch):
    def full(self, opened, kind, folder):
        (folder / "half").write_text("x")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    model = tmp_path / "model"
    assert export(workdir, f"--export_dir={model}") == 0
    monkeypatch.setattr(PlantedStack, "export", full)
    assert export(workdir, f"--export_dir={model}") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert [path.name for path in model.iterdir()] == ["1"]
