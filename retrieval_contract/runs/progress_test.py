"""Progress says plain lines where there is no terminal."""

import io

from retrieval_contract.runs import progress


def test_plain_lines_carry_count_rate_and_eta(monkeypatch):
    clock = iter([0.0, 11.0, 11.0, 12.0, 13.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    stream = io.StringIO()
    with progress.Progress("train x", total=20, done=4, stream=stream) as shown:
        shown.advance(8, "loss 1.5")
        shown.advance(1, "too soon to say")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "train x: 12 of 20 steps, 0.7 a second, ETA 11 s, loss 1.5"
    assert lines[1].startswith("train x: 13 of 20 steps")
    assert len(lines) == 2


def test_a_note_is_said_at_once():
    stream = io.StringIO()
    with progress.Progress("train x", total=20, stream=stream) as shown:
        shown.note("mining")
        assert stream.getvalue().endswith("mining\n")


def test_a_terminal_gets_a_bar_even_where_it_has_no_size():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with progress.Progress("train x", total=20, stream=stream) as shown:
        shown.advance(20, "loss 1.5")
    last = stream.getvalue().split("\r")[-1]
    assert "100%" in last and "20/20" in last
