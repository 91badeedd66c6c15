"""Layer `graph.ops`: see design notes in docs/architecture.md."""
