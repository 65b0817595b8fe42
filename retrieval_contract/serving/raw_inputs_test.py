import pytest

from retrieval_contract.errors import UserError
from retrieval_contract.serving.raw_inputs import RawInput, input_names

CITY, PRICE = RawInput("city", "text"), RawInput("price", "number")


def test_an_input_is_called_as_its_column():
    assert list(input_names([CITY, PRICE, CITY]).values()) == ["city", "price"]


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        ([RawInput("year", "number"), RawInput("year", "text")], ["year_number", "year_text"]),
        ([RawInput("a", "text"), RawInput("a", "text", "request")], ["a", "request_a"]),
        ([RawInput("history", "texts", "history"), RawInput("history", "number")], ["history_history", "history"]),
        ([RawInput("a", "text", "request"), RawInput("a", "number", "request")], ["a_text", "a_number"]),
        ([RawInput("watch time.s", "number"), RawInput("größe", "number")], ["watch_time_s", "gru00f6u00dfe"]),
        (
            [RawInput("7days", "number"), RawInput("_x", "number"), RawInput("", "text")],
            ["column_7days", "column__x", "column_"],
        ),
    ],
)
def test_columns_that_meet_are_told_apart(inputs, names):
    assert list(input_names(inputs).values()) == names


def test_columns_that_cannot_be_told_apart_are_refused():
    with pytest.raises(UserError, match="two columns would both be the input 'a_b'"):
        input_names([RawInput("a b", "text"), RawInput("a_b", "text")])
