"""Layer `data`: see design notes in docs/architecture.md."""
