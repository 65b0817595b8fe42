"""Towers as programs of `torch.export`, and what answers requests with them: neither run nor training is needed."""

from torch_reference.exported_program.retriever import ExportedRetriever

__all__ = ["ExportedRetriever"]
