"""Layer `graph.ops`: see design notes in docs/explanation/architecture.md."""
