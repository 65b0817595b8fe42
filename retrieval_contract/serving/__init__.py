"""Serving: raw requests in, encoded features out; what a server is made of."""
