import numpy as np

from retrieval_contract.sampling.streams import stream, uniforms


def test_draws_stay_what_they_are():
    assert stream(3, 2, 0, 7, 1).random_raw(2).tolist() == RAW
    np.testing.assert_allclose(uniforms(stream(3, 2, 0, 7, 1), 2), np.array(RAW) / 2.0**64, rtol=0, atol=2.0**-53)


RAW = [15248515901521507010, 1602380574184177933]


def test_streams_do_not_depend_on_each_other():
    first = stream(0, 1)
    first.random_raw(100)
    assert (stream(0, 1, 0).random_raw(4) == stream(0, 1, 0).random_raw(4)).all()
    assert len({int(stream(*keys).random_raw(1)[0]) for keys in ((0, 1), (1, 0), (0, 0, 1), (0, 1, 1))}) == 4


def test_uniforms_are_even_and_below_one():
    draws = uniforms(stream(5), 100_000)
    assert draws.dtype == np.float64 and draws.min() >= 0 and draws.max() < 1
    counts = np.bincount((draws * 10).astype(int), minlength=10)
    assert counts.min() > 9_600 and counts.max() < 10_400


def test_the_largest_number_times_a_size_stays_below_the_size():
    largest = (np.full(1, 2**64 - 1, np.uint64) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    sizes = np.concatenate([np.arange(1, 10_000), 2 ** np.arange(14, 53) - 1, 2 ** np.arange(14, 53) + 1])
    assert ((largest * sizes).astype(np.int64) == sizes - 1).all()
