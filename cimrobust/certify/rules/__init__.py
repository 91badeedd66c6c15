"""How one operator bounds its output: forwards by intervals, backwards by linear forms."""
