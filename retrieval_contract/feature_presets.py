"""Complete named runs that use features of all kinds: the video service, and cold candidates found by their content."""

from collections.abc import Callable

from retrieval_contract import config as c


def video() -> c.RunConfig:
    """The video service of the seed domain, simulated: every feature at the width that the domain gives it.

    A row is a positive where more than half was watched, or where it was liked or shared, and weighs its watch time.
    Affinities count watch time too, which is what their rows weigh. Nothing is left out of the ranking: people watch
    again. On the validation part the bias that starts at popularity and plain inner products gave recall@10 0.290,
    cosines with the same bias 0.274, popularity 0.228, the oracle 0.369.
    """
    return c.RunConfig(
        name="video",
        source=c.SimulatedVideoSource(kind="simulated_video"),
        positives=c.Positives(rule="engaged", watched_above=0.5, weight_column="watch_seconds"),
        query=c.Tower(
            features=(*_viewer(), _device(), *_habits(), *_past(), *_moment()),
            hidden_dims=(512, 256),
            dropout=0.2,
        ),
        candidate=c.Tower(features=_video(), hidden_dims=(512, 256), dropout=0.2),
        model=c.Model(dim=128, candidate_bias=True, candidate_bias_start="log_popularity"),
        optimizer=_adamw(learning_rate=0.001, weight_decay=0.01, warmup_steps=50),
        training=c.Training(epochs=10, batch_size=512),
        evaluation=c.Evaluation(exclude_seen=False),
    )


def video_context() -> c.RunConfig:
    """The same with a tower of the request: device, hour and weekday join the query's vector behind its tower."""
    base = video()
    query = base.query.model_copy(update={"features": (*_viewer(), *_habits(), *_past())})
    context = c.Tower(features=(_device(), *_moment()), hidden_dims=(64,))
    return base.model_copy(update={"name": "video_context", "query": query, "context": context})


def _viewer() -> tuple[c.Feature, ...]:
    return (
        c.IdFeature(name="query_id", width=64),
        c.NumericFeature(name="age", scaling="buckets", edges=(18, 25, 35, 45, 55), width=8),
        c.CategoricalFeature(name="country", width=16, top=50),
        c.CategoricalFeature(name="language", width=8),
    )


def _device() -> c.Feature:
    return c.CategoricalFeature(name="device", at="request", encoding="one_hot", width=4)


def _habits() -> tuple[c.Feature, ...]:
    return (
        c.NumericFeature(name="average_watch_seconds", at="request", scaling="log_z_score"),
        c.NumericFeature(name="videos_7d", at="request", scaling="log_z_score"),
    )


def _past() -> tuple[c.Feature, ...]:
    return (
        c.HistoryFeature(name="history", width=128, max_length=50),
        c.AffinityFeature(name="category_affinity", of="category", width=20),
    )


def _moment() -> tuple[c.Feature, ...]:
    return (
        c.TimeFeature(name="hour", at="request", part="hour", width=8),
        c.TimeFeature(name="weekday", at="request", part="weekday", width=4),
    )


def _video() -> tuple[c.Feature, ...]:
    return (
        c.IdFeature(name="candidate_id", width=64, unknown_rate=0.1),
        c.CategoricalFeature(name="creator", width=32),
        c.CategoricalFeature(name="category", width=16),
        c.NumericFeature(
            name="duration", column="duration_seconds", scaling="buckets", edges=(60, 300, 900, 1800), width=8
        ),
        c.TimeFeature(name="upload_age", column="uploaded_at", part="age"),
        c.DenseFeature(name="title_vector", width=128, missing="zeros"),
        c.NumericFeature(name="views", scaling="log_z_score"),
        c.NumericFeature(name="completion_rate"),
        c.NumericFeature(name="like_ratio"),
    )


def movietweetings_100k_cold() -> c.RunConfig:
    """MovieTweetings for candidates that training never met: genres and the words of the title, the year among them.

    Every other training example's candidate loses its id, so that the unknown id's row, and with it every candidate
    that training never met, lives from the content. There is no candidate bias, for it knows ids only. Queries without
    a history (40 % of the test part's) are answered from the towers' dense biases: what is new and liked. Without
    log q the ranking as a whole is lost (recall@10 0.017 where popularity has 0.082).
    """
    return c.RunConfig(
        name="movietweetings_100k_cold",
        source=c.FilesSource(
            kind="files",
            interactions="ratings.parquet",
            candidates="movies.parquet",
            columns={"query_id": "user_id", "candidate_id": "movie_id", "timestamp": "timestamp"},
            candidate_columns={"candidate_id": "movie_id"},
        ),
        query=c.Tower(
            features=(c.HistoryFeature(name="history", max_length=20, fields=("genres", "words"), shares=True),),
            hidden_dims=(64,),
            feature_dropout=0.3,
        ),
        candidate=c.Tower(
            features=(
                c.IdFeature(name="candidate_id", unknown_rate=0.5),
                c.MultivalentFeature(name="genres", max_length=6),
                c.TextFeature(name="words", column="title", ngrams=(1,), num_buckets=5_000, max_length=12),
            ),
            hidden_dims=(64,),
            feature_dropout=0.3,
        ),
        model=c.Model(dim=32, normalize=True),
        loss=c.Loss(temperature=0.1),
        optimizer=_adamw(learning_rate=0.003, weight_decay=0.1, warmup_steps=31),
        training=c.Training(epochs=4, batch_size=512),
        evaluation=c.Evaluation(ease_l2=1_000.0),
    )


def _adamw(*, learning_rate: float, weight_decay: float, warmup_steps: int) -> c.Optimizer:
    """AdamW with a warm-up and a cosine to zero; the candidate bias does not decay."""
    return c.Optimizer(
        kind="adamw",
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        warmup_steps=warmup_steps,
        schedule="cosine",
    )


FEATURE_PRESETS: tuple[Callable[[], c.RunConfig], ...] = (video, video_context, movietweetings_100k_cold)
"""Taken up by `presets`."""
