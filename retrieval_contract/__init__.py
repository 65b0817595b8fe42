"""Everything the two stacks agree on before a framework is chosen."""
