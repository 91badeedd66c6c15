"""Layer `data`: see design notes in docs/explanation/architecture.md."""
