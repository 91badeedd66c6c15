"""Layer `montecarlo`: see design notes in docs/explanation/architecture.md."""
