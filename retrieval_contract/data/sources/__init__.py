"""Where raw rows come from: `load` hands a configured source to its reader."""

from retrieval_contract.config import FilesSource, MovieLensSource, SimulatedSource, SimulatedVideoSource, Source
from retrieval_contract.data.sources.raw import RawData, Truth

__all__ = ["RawData", "Truth", "load"]


def load(source: Source, *, seed: int) -> RawData:
    """Read, or make, a data set.

    Args:
        source: which one.
        seed: of the simulated sources; others do not use it.

    Returns:
        Checked rows.

    Raises:
        UserError: the source cannot be read, or a row is bad and rows are not to be dropped.
    """
    # Imported here: a run pays for its own source only, and TFDS must stay out of runs that do not ask for it.
    if isinstance(source, SimulatedSource):
        from retrieval_contract.data.sources.simulated import load as load_simulated

        return load_simulated(source, seed=seed)
    if isinstance(source, SimulatedVideoSource):
        from retrieval_contract.data.sources.simulated_video import load as load_simulated_video

        return load_simulated_video(source, seed=seed)
    if isinstance(source, MovieLensSource):
        from retrieval_contract.data.sources.movielens import load as load_movielens

        return load_movielens(source)
    assert isinstance(source, FilesSource)
    from retrieval_contract.data.sources.files import load as load_files

    return load_files(source)
