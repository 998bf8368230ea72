"""Pull requests: a discussion and a reference that belong together. Hold the repo's lock for all of this."""

from typing import Any

from dulwich.objects import ObjectID
from dulwich.refs import Ref

from metta_hub.localhub.discussions import Discussions
from metta_hub.localhub.gitrepo import PULLS, GitRepo
from metta_hub.localhub.repo import Repo


def open_pull_request(repo: Repo, git: GitRepo, proposal: dict[str, Any], head: ObjectID) -> None:
    """Give a drafted pull request its reference, then save it: from then on it exists."""
    reference = Ref(f"{PULLS}{proposal['num']}".encode())
    if git.reference(reference.decode()):  # of one whose server died before it was saved
        git.delete_reference(reference)
    git.create_reference(reference, head)
    Discussions(repo).save(proposal)


def remove_lost_pull_requests(repo: Repo) -> None:
    """Remove the references of pull requests whose server died before they were saved."""
    known = {str(item["num"]) for item in Discussions(repo).all()}
    with repo.git() as git:
        for number in git.references(PULLS):
            if number not in known:
                git.delete_reference(Ref(f"{PULLS}{number}".encode()))
