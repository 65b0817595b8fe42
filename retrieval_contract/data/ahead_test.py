import threading
import time

import pytest

from retrieval_contract.data.ahead import made_ahead


@pytest.mark.parametrize("num_threads", [0, 1, 3])
def test_things_come_in_order_whoever_is_faster(num_threads):
    def make(number):
        time.sleep(0.002 * (number % 3 == 0))
        return number * 10

    assert list(made_ahead(make, range(2, 30), num_threads=num_threads)) == [10 * number for number in range(2, 30)]
    assert list(made_ahead(make, range(0), num_threads=num_threads)) == []


def test_others_are_made_meanwhile():
    met = threading.Barrier(2, timeout=10)

    def make(number):
        met.wait()
        return number

    assert list(made_ahead(make, range(4), num_threads=2)) == [0, 1, 2, 3]


@pytest.mark.parametrize("num_threads", [0, 2])
def test_an_error_comes_in_its_turn(num_threads):
    def make(number):
        if number == 3:
            raise ValueError("three")
        return number

    made = made_ahead(make, range(9), num_threads=num_threads)
    assert [next(made) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(made)


def test_leaving_early_makes_no_more():
    made_so_far = []
    made = made_ahead(made_so_far.append, range(1_000), num_threads=2)
    next(made)
    made.close()
    count = len(made_so_far)
    assert count <= 5
    time.sleep(0.01)
    assert len(made_so_far) == count
