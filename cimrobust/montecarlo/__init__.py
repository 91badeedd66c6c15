"""Layer `montecarlo`: see design notes in docs/architecture.md."""
