"""Raw inputs of the towers: what each is called, what it holds, and whose it is; one for each column that is read.

What stands where nothing is known, and how lists are written, is said by those who read them: `serving.raw_rows` for
JSON, `tfrs_models.preprocessing.inputs` for tensors.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NoReturn

from retrieval_contract.config import (
    AffinityFeature,
    CrossFeature,
    DenseFeature,
    HistoryFeature,
    IdFeature,
    MultivalentFeature,
    NumericFeature,
    Side,
    TextFeature,
    TimeFeature,
    WeightedMeanPooling,
    is_at_request,
)
from retrieval_contract.data.features import FittedFeatures
from retrieval_contract.data.fitted import FittedFeature
from retrieval_contract.data.sources.raw import CANDIDATE_ID, QUERY_ID, TIME
from retrieval_contract.errors import UserError

Form = Literal["text", "number", "moment", "texts", "numbers", "moments", "tokens", "vector"]
"""What one row of an input holds: one value; a list of them, or of the ids of tokens; or a vector."""
Source = Literal["entity", "request", "history"]


@dataclass(frozen=True, slots=True)
class RawInput:
    """One column that one or several features read."""

    column: str
    """Its name in the table of training."""
    form: Form
    """What it holds."""
    source: Source = "entity"
    """Whose it is: the query's or candidate's, the request's, or of the query's past."""
    width: int | None = None
    """Numbers of a vector."""


REQUEST_TIME = RawInput(TIME, "moment", "request")
"""When the request came."""
HISTORY_IDS = RawInput("history", "texts", "history")
"""Ids of the candidates that the query met before the request, oldest first; as many as there are, or the last ones."""
HISTORY_WEIGHTS = RawInput("history_weights", "numbers", "history")
"""Weights of those interactions; 1 each where they are left out."""
HISTORY_TIMES = RawInput("history_times", "moments", "history")
"""When they were. Ages count to the request's time, or where that is missing to the newest item's; an item whose moment
is missing, or behind the request's, has age 0."""


def raw_inputs(fitted: FittedFeatures, side: Literal["query", "candidate"]) -> dict[str, RawInput]:
    """All inputs of a side by name, in the features' order; the context tower's and the past's behind the query's.

    Raises:
        UserError: columns cannot be told apart.
    """
    parts: tuple[Side, ...] = ("candidate",) if side == "candidate" else ("query", "context")
    inputs = [raw for part in parts for feature in fitted.of(part) for raw in inputs_of(feature, part)]
    past = past_inputs(fitted) if side == "query" else ()
    return {name: raw for raw, name in input_names([*inputs, *past]).items()}


def inputs_of(feature: FittedFeature, side: Side) -> tuple[RawInput, ...]:
    """What one feature reads: its column, and the weights beside it where it has some.

    Crosses read other features, histories and affinities the past: nothing of their own.
    """
    spec = feature.spec
    if isinstance(spec, CrossFeature | HistoryFeature | AffinityFeature):
        return ()
    if isinstance(spec, IdFeature):
        return (RawInput(CANDIDATE_ID if side == "candidate" else QUERY_ID, "text"),)
    if isinstance(spec, TimeFeature) and spec.at == "request":
        return (REQUEST_TIME,)
    if isinstance(spec, DenseFeature):
        return (RawInput(spec.column_name, "vector", width=spec.width),)
    source: Source = "request" if is_at_request(spec) else "entity"
    values = RawInput(spec.column_name, _form(feature), source)
    if isinstance(spec, MultivalentFeature) and spec.weights_column is not None:
        return values, RawInput(spec.weights_column, "numbers", source)
    return (values,)


def past_inputs(fitted: FittedFeatures) -> tuple[RawInput, ...]:
    """What histories and affinities read: ids; weights, moments and the request's where something looks at them."""
    specs = list(_histories(fitted))
    if not specs and not fitted.affinities:
        return ()
    needs_weights = bool(fitted.affinities) or any(isinstance(spec.pooling, WeightedMeanPooling) for spec in specs)
    weights = (HISTORY_WEIGHTS,) if needs_weights else ()
    times = (HISTORY_TIMES, REQUEST_TIME) if any(_looks_at_age(spec) for spec in specs) else ()
    return (HISTORY_IDS, *weights, *times)


def looked_up(fitted: FittedFeatures) -> dict[str, str]:
    """Candidate features that are looked up for the items of pasts, each with a feature that does so."""
    fields = {name: spec.name for spec in _histories(fitted) for name in spec.fields}
    affinities = {feature.spec.of: feature.name for feature in fitted.affinities if feature.spec.kind == "affinity"}
    return fields | affinities


def need_catalogue(wanted: Mapping[str, str]) -> NoReturn:
    """Refuse to encode pasts without a catalogue.

    Args:
        wanted: from `looked_up`, one or more.

    Raises:
        UserError: always.
    """
    name, feature = next(iter(wanted.items()))
    what = f"feature {feature!r} looks {name!r} of candidates up, and no catalogue is given"
    raise UserError(what, todo="give candidate_ids and candidate_features")


def input_names(inputs: Iterable[RawInput]) -> dict[RawInput, str]:
    """Name each input: as its column, where no other input is called so.

    Where features read one column in several forms, every form is an input, `<column>_<form>`; where the request or
    the history has a column called as one of the entity's, it is `request_<column>` or `history_<column>`. Signatures
    of a SavedModel take ASCII letters, digits and `_` alone, a letter first: other ASCII becomes `_`, what lies beyond
    becomes its code point (`größe`: `gru00f6u00dfe`), and `column_` goes before what does not begin with a letter.

    Raises:
        UserError: a column is called as another one has to be.
    """
    distinct = dict.fromkeys(inputs)
    names: dict[RawInput, str] = {}
    for raw in distinct:
        alike = [other for other in distinct if other.column == raw.column]
        suffix = f"_{raw.form}" if any(other.source == raw.source and other != raw for other in alike) else ""
        prefix = f"{raw.source}_" if any(_goes_before(other, raw) for other in alike) else ""
        names[raw] = _plain(f"{prefix}{raw.column}{suffix}")
    twice = sorted({name for name in names.values() if list(names.values()).count(name) > 1})
    if twice:
        todo = "call one of them otherwise in the tables"
        raise UserError(f"two columns would both be the input {twice[0]!r}", where="raw inputs", todo=todo)
    return names


def _form(feature: FittedFeature) -> Form:
    if isinstance(feature.spec, NumericFeature | TimeFeature):
        return "number"
    if isinstance(feature.spec, MultivalentFeature):
        return "texts"
    return "tokens" if isinstance(feature.spec, TextFeature) and feature.spec.tokens == "tokenizer" else "text"


def _histories(fitted: FittedFeatures) -> Iterator[HistoryFeature]:
    for feature in fitted.histories:
        assert isinstance(feature.spec, HistoryFeature)
        yield feature.spec


def _looks_at_age(spec: HistoryFeature) -> bool:
    return bool(spec.age_buckets) or getattr(spec.pooling, "half_life_days", None) is not None


def _plain(name: str) -> str:
    """The name in letters that TensorFlow does not change silently, or stumble over, where it names an argument."""
    plain = "".join(_letter(letter) for letter in name)
    return plain if plain[:1].isalpha() else f"column_{plain}"


def _letter(letter: str) -> str:
    if not letter.isascii():
        return f"u{ord(letter):04x}"
    return letter if letter.isalnum() else "_"


def _goes_before(other: RawInput, raw: RawInput) -> bool:
    """True where the other input keeps the bare name of a column that both have."""
    order = ("entity", "request", "history")
    return order.index(other.source) < order.index(raw.source)
