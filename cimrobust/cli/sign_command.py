"""`cimrobust sign`: somebody vouches for a certificate."""

from __future__ import annotations

from pathlib import Path

import click

from cimrobust.cli.command_help import ExampleCommand
from cimrobust.cli.options import certificate_argument, json_option


@click.command(
    "sign",
    cls=ExampleCommand,
    examples=("cimrobust sign out --key signer.pem",),
)
@certificate_argument
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    help=(
        "Private key (PEM: ed25519, ECDSA or RSA); CIMROBUST_KEY_PASSPHRASE holds the passphrase of"
        " an encrypted one."
    ),
)
@click.option(
    "--sigstore",
    is_flag=True,
    help="Sign by sigstore, as the identity of the pipeline or of a sign-in in the browser.",
)
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    help="Policy of the signed verdict, in place of the certificate's own.",
)
@json_option
def command(
    directory: Path, key: Path | None, sigstore: bool, policy: Path | None, as_json: bool
) -> None:
    """Sign the certificate in DIR.

    The network's digests, certificate.json, and every other file by manifest.json.

    What can be seen to be wrong without data is not signed (exit code 6).
    """
    from cimrobust.review.signing import sign

    signed = sign(directory, key=key, sigstore=sigstore, policy=policy)
    if as_json:
        from cimrobust.certificate.models.printed_folders import SignOutput

        files = [str(path) for path in signed.files]
        made = SignOutput.model_validate(
            {"files": files, "word": signed.word, "keyid": signed.keyid}
        )
        click.echo(made.model_dump_json(indent=2))
        return
    for path in signed.files:
        click.echo(f"{'signature':<22}{path}")
    click.echo(f"{'signed verdict':<22}{signed.word}")
    if signed.keyid is not None:
        click.echo(f"{'key':<22}{signed.keyid}")
