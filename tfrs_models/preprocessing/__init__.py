"""The fitted feature spec as in-graph layers, for the exported model."""

from tfrs_models.preprocessing.inputs import MISSING_MOMENT, RawInput
from tfrs_models.preprocessing.preprocessor import FeaturePreprocessor
from tfrs_models.preprocessing.rows import MISSING_TEXT

__all__ = ["MISSING_MOMENT", "MISSING_TEXT", "FeaturePreprocessor", "RawInput"]
