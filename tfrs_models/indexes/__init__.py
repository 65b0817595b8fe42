"""Indexes of the TensorFlow stack."""
