"""`cimrobust verify-signature`: who vouches for a certificate, and whether it was changed since."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cimrobust.cli.command_help import ExampleCommand
from cimrobust.cli.options import certificate_argument, json_option
from cimrobust.errors import UsageError


@click.command(
    "verify-signature",
    cls=ExampleCommand,
    examples=(
        "cimrobust verify-signature out --key signer.pub.pem",
        "cimrobust verify-signature out --key signer.pub.pem --model model.onnx",
    ),
)
@certificate_argument
@click.option(
    "--key", type=click.Path(path_type=Path), help="Public key (PEM) of whom must have signed."
)
@click.option(
    "--identity",
    metavar="IDENTITY",
    help="Who must have signed: a public key file, or NAME@https://ISSUER of sigstore.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="The network that is to be shipped, to compare with what was signed.",
)
@json_option
def command(
    directory: Path, key: Path | None, identity: str | None, model: Path | None, as_json: bool
) -> None:
    """Verify the signature of the certificate in DIR, and that DIR is what was signed.

    Exit code 6: it is not signed by whom it must be, or something was changed, added or removed
    since.
    """
    from cimrobust.review.signing import NOT_SAID, verify_signature

    if (key is None) is (identity is None):
        raise UsageError(
            "a signer must be named, got none or two (--key, --identity); give one of them"
        )
    asked = key if identity is None else identity
    assert asked is not None
    found = verify_signature(directory, identity=asked, model=model)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
        return
    signed = found.attestation
    rows = {
        "signed by": found.identity,
        "signatures": ", ".join(found.files),
        "signed verdict": f"{signed.word}: {signed.sentence}",
        "made by": f"{signed.tool.name} {signed.tool.version}",
        "files": "certificate.json and every file of manifest.json are those that were signed",
    }
    compared = "as signed" if found.model_compared else "not compared, give --model"
    rows |= {
        f"model {name}": f"sha256 {digest[:16]}... ({compared})"
        for name, digest in found.model.items()
    }
    for name, text in rows.items():
        click.echo(f"{_plain(name):<22} {_plain(text)}")
    click.echo(NOT_SAID)


def _plain(text: str) -> str:
    """Return text of a file without what a terminal would take for a command."""
    from cimrobust.input_file import printable

    return printable(text)
