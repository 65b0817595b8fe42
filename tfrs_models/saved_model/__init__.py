"""A trained run as a SavedModel: raw features in, candidate ids and scores out, no Python needed to serve it."""
