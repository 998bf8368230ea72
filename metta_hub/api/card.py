"""card: the README.md that a push would publish."""

from pathlib import Path

from metta_hub import card as cards
from metta_hub import formats, history
from metta_hub import index as index_file
from metta_hub.api import front, judging, targets
from metta_hub.api.describe import at_hand, describe
from metta_hub.api.remote import RepoCommit, RepoFolder
from metta_hub.api.report import Report, silent
from metta_hub.card import CardFile
from metta_hub.checkpoint import Checkpoint
from metta_hub.formats import repo as repo_format
from metta_hub.index import Index
from metta_hub.names import CARD, CONFIG, Reference


def card(
    target: Path | str,
    *,
    template: str = "default",
    license: str | None = None,  # noqa: A002  (the Hub's and the command line's word)
    revision: str | None = None,
    token: str | None = None,
    cache_dir: Path | None = None,
    report: Report = silent,
) -> str:
    """Write the card of a local checkpoint or of a repo.

    Args:
        target: a path, or `[hf://]org/name[@revision]`.
        template: name or file of a card template.
        license: the Hub's id of a licence.
        revision: instead of one in the reference.
        token: instead of the environment's or the stored one.
        cache_dir: huggingface_hub's cache.
        report: told what is being done.

    Raises:
        NotFoundError: there is no such thing.
        FormatError: it is damaged, or of no format that we know.
    """
    found = targets.parse(str(target), revision=revision, report=report)
    if isinstance(found, Reference):
        targets.refuse_selector(found, "the card is that of the repo")
        repo = RepoCommit.open(found, "card", typed=str(target), token=token, cache_dir=cache_dir)
        if repo.hub.offline:  # what is not cached may still be in the repo: somebody's own card, too
            repo.folder([CARD, CONFIG])
        root = at_hand(repo, history.select(repo.index, None).entry)
        text = front.card_of(root, repo, repo.index, template=template, license_id=license)
        return text.content.decode(errors="replace")
    if repo_format.sniff(found):
        return _of_folder(RepoFolder(found), template, license)
    return _of_checkpoint(judging.judge(formats.read(found)).checkpoint, template, license)


def _of_folder(repo: RepoFolder, template: str, license_id: str | None) -> str:
    entry = history.select(repo.index, None).entry
    files = [CardFile(path, file.size, file.sha256) for path, file in sorted(entry.files.items())]
    return cards.render(
        describe(repo, entry),
        repo_id=repo.path.resolve().name,
        index=repo.index,
        files=files,
        template=template,
        license_id=license_id,
    )


def _of_checkpoint(checkpoint: Checkpoint, template: str, license_id: str | None) -> str:
    """The card of a repo that holds nothing else, under the checkpoint's own name."""
    entry = index_file.entry_of(
        checkpoint.name,
        checkpoint.metadata,
        parameters=checkpoint.weights.parameters,
        files={},
        published_at="",
    )
    return cards.render(
        checkpoint,
        repo_id=checkpoint.name,
        index=Index(checkpoint.name, (entry,)),
        files=[],
        template=template,
        license_id=license_id,
    )
