"""Which presets `benchmarks.presets` trains, and where the data of each lies.

Data sets are read from the folder that TWO_TOWER_SHARED names (`../shared` without it) and never copied, but for a
download cache of TensorFlow Datasets, which may write into its own.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retrieval_contract.errors import UserError
from retrieval_contract.presets import preset


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One preset with its data."""

    name: str
    """The preset."""
    title: str
    """What reports call it: the data, and how it is split."""
    data: str = ""
    """Folder below the shared one, empty where the data is simulated."""
    files_of: str = ""
    """Preset whose source of files is read instead of a folder that TensorFlow Datasets prepared: the same rows."""
    cached_download: bool = False
    """The folder is a download cache, from which TensorFlow Datasets prepares the data anew."""

    def check(self, shared: Path) -> None:
        """Refuse data that is not there.

        Raises:
            UserError: where it was looked for.
        """
        if self.data and not (shared / self.data).is_dir():
            todo = "name the folder that holds `data` with --data, or leave this preset out with --preset"
            raise UserError(f"no data for {self.title}", where=str(shared / self.data), todo=todo)

    def flags(self, shared: Path, scratch: Path) -> list[str]:
        """What `train` is called with.

        Args:
            shared: folder of the data sets.
            scratch: empty folder that may be written to.
        """
        named = f"--preset={self.name}"
        if not self.data:
            return [named]
        if self.cached_download:
            cache = scratch / "downloads"
            shutil.copytree(shared / self.data, cache)
            return [named, f"--data_dir={scratch / 'prepared'}", f"--set=source.download_dir={cache}"]
        folder = str((shared / self.data).resolve())
        if self.files_of:
            source = preset(self.files_of).source.model_dump(mode="json") | {"data_dir": folder}
            return [named, f"--set=source={json.dumps(source)}"]
        return [named, f"--data_dir={folder}"]


def _cases(*cases: Case) -> dict[str, Case]:
    return {case.name: case for case in cases}


SIMULATED = "simulated"
CASES = _cases(
    Case(name=SIMULATED, title="Simulated data"),
    Case(
        name="movielens_100k",
        title="MovieLens 100K, random 80/20, training items removed",
        data="data/ml-100k",
        files_of="movielens_100k_files",
    ),
    Case(
        name="movielens_100k_nothing_removed",
        title="MovieLens 100K, random 80/20, nothing removed",
        data="data/ml-100k",
        files_of="movielens_100k_files",
    ),
    Case(
        name="movielens_latest_small",
        title="MovieLens latest-small, random 80/20",
        data="tfds_downloads",
        cached_download=True,
    ),
    Case(
        name="movietweetings_100k",
        title="MovieTweetings 100K, temporal, 40 % of the test queries are new",
        data="data/movietweetings-100k",
    ),
    Case(
        name="movietweetings_100k_cold",
        title="MovieTweetings 100K, candidates found by their content",
        data="data/movietweetings-100k",
    ),
    Case(name="video", title="The simulated video service"),
)


def chosen(names: Sequence[str] | None, *, quick: bool) -> list[Case]:
    """The cases that were named; all of them, or with `quick` the simulated data alone, where none was."""
    return [CASES[name] for name in names or ([SIMULATED] if quick else CASES)]
