"""``python -m cimrobust`` is the ``cimrobust`` command."""

from cimrobust.cli.main import main

main()
