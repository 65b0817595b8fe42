"""What every index promises, the exact one, and the test class that holds the others to it."""
