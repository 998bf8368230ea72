"""The card of a repo: made anew, unless somebody else wrote or edited it."""

from dataclasses import dataclass

from metta_hub import card, history, names, scrub
from metta_hub.api.remote import RepoCommit
from metta_hub.checkpoint import Checkpoint
from metta_hub.containers import copying
from metta_hub.errors import NotFoundError
from metta_hub.formats import repo as repo_format
from metta_hub.index import FileRecord, Index
from metta_hub.names import CARD, CONFIG


@dataclass(frozen=True, slots=True)
class CardText:
    """A card, the licence that it names, and whether it is somebody else's and therefore kept."""

    content: bytes
    license_id: str | None
    kept: bool


def card_of(root: Checkpoint, repo: RepoCommit, index: Index, *, template: str, license_id: str | None) -> CardText:
    """The card that a publication would leave in a repo.

    Args:
        root: the checkpoint that the repo stands for.
        repo: the repo as it is.
        index: its checkpoints.
        template: name or file of a template.
        license_id: the Hub's id of a licence; None keeps the one that the card names.

    Raises:
        FileError: the template cannot be filled in.
        SecretError: a text of the card looks like a credential.
    """
    kept = _kept(repo)
    if kept is not None:
        return CardText(kept, card.license_of(kept.decode(errors="replace")), kept=True)
    license_id = license_id or _license(repo)
    entry = history.select(index, None).entry
    own = names.metadata_file(entry.name)
    shown = [card.CardFile(path, file.size, file.sha256) for path, file in sorted(entry.files.items()) if path != own]
    text = card.render(root, repo_id=repo.repo_id, index=index, files=shown, template=template, license_id=license_id)
    scrub.check_text(text, "the card")
    return CardText(scrub.scrub_text(text)[0].encode(), license_id, kept=False)


def _kept(repo: RepoCommit) -> bytes | None:
    """The repo's card when somebody else wrote or edited it: then it stays as it is, now and later."""
    if CARD not in repo.tree:
        return None
    content = repo.document(CARD)
    try:
        config = repo_format.parse_config(repo.document(CONFIG))
    except NotFoundError:
        return content
    written = copying.digest_bytes(content)
    ours = CARD not in config.kept and config.files.get(CARD) == FileRecord(written.size, written.sha256)
    return None if ours else content


def _license(repo: RepoCommit) -> str | None:
    return card.license_of(repo.document(CARD).decode(errors="replace")) if CARD in repo.tree else None
