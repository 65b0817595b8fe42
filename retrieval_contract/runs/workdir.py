"""Where a run's files lie, by name."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Workdir:
    """The folder of one run."""

    path: Path

    @property
    def config(self) -> Path:
        """The configuration that repeats the run."""
        return self.path / "config.yaml"

    @property
    def features(self) -> Path:
        """The fitted feature state: vocabularies and statistics."""
        return self.path / "features.json"

    @property
    def weights(self) -> Path:
        """The canonical weights of the last step."""
        return self.path / "weights.safetensors"

    @property
    def metrics(self) -> Path:
        """The evaluation report."""
        return self.path / "metrics.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def negatives(self) -> Path:
        """Folder of mined hard negatives."""
        return self.path / "negatives"

    @property
    def scalars(self) -> Path:
        """Folder of TensorBoard event files."""
        return self.path / "tensorboard"

    @property
    def vectors(self) -> Path:
        """Folder of candidate vectors."""
        return self.path / "vectors"

    @property
    def indexes(self) -> Path:
        """Folder of the indexes of all backends."""
        return self.path / "index"

    def index(self, backend: str) -> Path:
        """Folder of a backend's index."""
        return self.indexes / backend
