"""Pages of the reference, each a function without arguments that returns Markdown."""
