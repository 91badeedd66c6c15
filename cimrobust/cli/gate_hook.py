"""`cimrobust-gate-hook`: the gate as a hook of pre-commit, for certificates in a repository.

pre-commit hands over the files that change. Each is a part of a certificate, whose folder is the
nearest one above it with a certificate.json; every such folder is gated once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import click

from cimrobust.cli.main import run

CERTIFICATE = "certificate.json"


@click.command()
@click.option("--policy", required=True, help="Policy that every certificate has to pass.")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
def hook(policy: str, files: tuple[Path, ...]) -> int:
    """Gate every certificate that FILES are parts of.

    Exit code: that of the last gate that does not pass, 0 if all pass.
    """
    code = 0
    for folder in certificate_folders(files):
        click.echo(f"{folder}:")
        code = run(["gate", str(folder), "--policy", policy]) or code
    return code


def certificate_folders(files: Iterable[Path]) -> list[Path]:
    """Return the folders of the certificates that files are parts of, each once.

    A file that was removed with its whole certificate belongs to none.
    """
    found: dict[Path, None] = {}
    for file in files:
        for folder in file.parents:
            if (folder / CERTIFICATE).is_file():
                found[folder] = None
                break
    return list(found)


def main() -> None:
    """Run the hook and exit with its code."""
    try:
        code = hook.main(sys.argv[1:], prog_name="cimrobust-gate-hook", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    sys.exit(code)
