"""The referee: the only place, with the benchmarks, that imports both stacks."""
