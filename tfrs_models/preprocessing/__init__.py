"""The fitted feature spec as in-graph layers, for the exported model."""

from retrieval_contract.serving.raw_inputs import RawInput
from retrieval_contract.serving.raw_rows import MISSING_MOMENT
from tfrs_models.preprocessing.preprocessor import FeaturePreprocessor
from tfrs_models.preprocessing.rows import MISSING_TEXT

__all__ = ["MISSING_MOMENT", "MISSING_TEXT", "FeaturePreprocessor", "RawInput"]
