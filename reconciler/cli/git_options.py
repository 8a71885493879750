"""The options of ``watch --git``: where the manifest lies in Git, who must have signed it, what opens the door.

Secrets are given by reference only: the command line of a process can be read by everybody on the machine.
"""

import posixpath
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from reconciler.cli.durations import PERIOD
from reconciler.core.git_place import GIT_INTERVAL_S, GIT_PATH, GitPlace
from reconciler.core.policies import Credential, SecretReference

_SIGNERS = "allowed_signers"
_VERIFY_HELP = "Take up signed commits only. SIGNERS: an allowed-signers file (ssh), or a GnuPG key ring's folder."
_OPTIONS = (
    click.option("--git", "git_url", metavar="URL[#REF]", help="Take the manifest from a Git repository."),
    click.option("--git-path", metavar="PATH", help=f"Where in the repository: a file or folder.  [{GIT_PATH}]"),
    click.option("--git-interval", type=PERIOD, metavar="DURATION", help="Between fetches.  [--interval, else 60s]"),
    click.option("--verify", "--git-verify", is_flag=False, flag_value="", metavar="[SIGNERS]", help=_VERIFY_HELP),
    click.option("--git-signers", metavar="PATH", help="The same SIGNERS; asks for signatures, too."),
    click.option("--git-token", metavar="REFERENCE", help="env:NAME, file:PATH or credential:NAME; sent to URL only."),
    click.option("--git-ssh-key", metavar="PATH", help="Private key for ssh, instead of the agent and ~/.ssh."),
    click.option("--git-known-hosts", metavar="PATH", help="Believe only the ssh servers in this file."),
)
_NEEDS_URL = ("git_path", "git_interval", "verify", "git_signers", "git_token", "git_ssh_key", "git_known_hosts")


def git_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """All of them, in the order of the help page."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def place_from(context: click.Context, options: Mapping[str, Any], environ: Mapping[str, str]) -> GitPlace | None:
    """Where the options say that the manifest lies; None where they say nothing of Git.

    Raises:
        click.UsageError: an option that has no ``--git``, no signers where some are asked for, a secret in the open.
    """
    url = options["git_url"]
    if url is None:
        if typed := next((name for name in _NEEDS_URL if options[name] is not None), None):
            raise click.UsageError(f"--{typed.replace('_', '-')} goes with --git URL", context)
        return None
    url, sign, ref = url.partition("#")
    token = options["git_token"]
    return GitPlace(
        url=url,
        ref=ref if sign and ref else None,
        path=options["git_path"] or GIT_PATH,
        interval_s=_interval(context, options),
        signers=_signers(context, options, environ),
        credential=None if token is None else _token(context, token, environ),
        ssh_key=_absolute(options["git_ssh_key"]),
        known_hosts=_absolute(options["git_known_hosts"]),
    )


def _interval(context: click.Context, options: Mapping[str, Any]) -> float:
    if options["git_interval"] is not None:
        return float(options["git_interval"])
    is_typed = context.get_parameter_source("interval") is not click.core.ParameterSource.DEFAULT
    return float(options["interval"]) if is_typed else GIT_INTERVAL_S


def _signers(context: click.Context, options: Mapping[str, Any], environ: Mapping[str, str]) -> str | None:
    """The path that was typed; for a bare ``--verify`` the first default one that is there."""
    named = options["git_signers"] or options["verify"]
    if named or options["verify"] is None:
        return _absolute(named)
    home = environ.get("XDG_CONFIG_HOME") or posixpath.join(environ.get("HOME", "/"), ".config")
    places = [f"{home}/reconciler/{_SIGNERS}", f"/etc/reconciler/{_SIGNERS}"]
    found = next((path for path in places if Path(path).exists()), None)
    if found is None:
        raise click.UsageError(f"--verify needs SIGNERS: there is no {' and no '.join(places)}", context)
    return found


def _token(context: click.Context, text: str, environ: Mapping[str, str]) -> Credential:
    from reconciler.adapters.manifest import TOKEN_USER  # noqa: PLC0415 -- only with a token

    kind, _, name = text.partition(":")
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    match kind:
        case "env" if name:
            reference = SecretReference(env=name)
        case "file" if name:
            reference = SecretReference(file=_absolute(name))
        case "credential" if name and "/" not in name and folder:
            reference = SecretReference(file=f"{folder}/{name}")
        case "credential" if name:
            raise click.UsageError(
                "--git-token credential:NAME needs CREDENTIALS_DIRECTORY, as systemd sets it", context
            )
        case _:  # what was typed may be the token itself: it is not quoted
            raise click.UsageError("--git-token takes env:NAME, file:PATH or credential:NAME, never the token", context)
    return Credential(host="", basic=(TOKEN_USER, reference))


def _absolute(path: str | None) -> str | None:
    return None if not path else str(Path.cwd() / path)
