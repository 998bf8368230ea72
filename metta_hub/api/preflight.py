"""What must hold before any work is done for a publication: who, where, and with what right."""

import re
from dataclasses import dataclass, replace

from metta_hub import names
from metta_hub.errors import ConflictError, NotFoundError, UsageError
from metta_hub.hub import Account, Hub, RepoInfo
from metta_hub.names import Reference

MAIN = "main"
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Wish:
    """Where an author wants to publish.

    Attributes:
        reference: the repo, a bare name being the author's own, and the branch; no revision means `main`.
        private: the visibility; None means as it is, or the Hub's default for a new repo.
        create_pr: propose, rather than publish.
        tag: a tag to make; None means none.
    """

    reference: Reference
    private: bool | None
    create_pr: bool
    tag: str | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a publication will go.

    Attributes:
        repo_id: with its namespace.
        repo: the repo as it is; None when it has to be made.
        branch: the branch to commit to.
        branch_exists: whether it is there.
        tagged: whether the wished tag is there, at the head of the branch: right if that holds everything already.
        created: whether the repo was made for this publication.
    """

    repo_id: str
    repo: RepoInfo | None
    branch: str
    branch_exists: bool
    tagged: bool = False
    created: bool = False


def check(hub: Hub, wish: Wish) -> Place:
    """Find out whether the publication can succeed.

    Raises:
        HubAccessError: no token, or one without the right; names its source.
        ConflictError: the repo has the other visibility, or the tag is taken.
        UsageError: a selector where a repo is meant, or a name that no branch or tag can have.
    """
    branch = check_names(wish)
    account = hub.account()
    repo_id = wish.reference.repo_id if wish.reference.namespace else f"{account.name}/{wish.reference.repo}"
    repo = hub.repo(repo_id)
    if repo is None:
        _check_new(hub, repo_id, account, wish)
        return Place(repo_id, None, branch, branch_exists=branch == MAIN)
    if not wish.create_pr:
        hub.require_write(repo.repo_id, account)
    _check_visibility(repo, wish.private)
    return _check_refs(hub, repo, branch, wish.tag)


def check_names(wish: Wish) -> str:
    """The branch that is meant; asks nobody.

    Raises:
        UsageError: a selector where a repo is meant, or a name that no branch or tag can have.
    """
    if wish.reference.selector:
        raise UsageError(
            f"'{wish.reference}' names one checkpoint of a repo; push needs a repo.",
            hint=f"name the repo alone: {replace(wish.reference, selector=None)}",
        )
    if wish.tag is not None:
        names.check_ref(wish.tag, "tag")
    branch = wish.reference.revision or MAIN
    if _COMMIT.fullmatch(branch):
        raise UsageError(f"'{branch}' is a commit, and those don't change.", hint="--revision takes a branch")
    return names.check_ref(branch, "branch")


def tag_taken(repo_id: str, tag: str | None) -> ConflictError:
    """The error for a tag that stands for something else."""
    sentence = f"{repo_id} has the tag '{tag}' already; nothing was published."
    return ConflictError(str(tag), sentence, hint="choose another --tag")


def _check_refs(hub: Hub, repo: RepoInfo, branch: str, tag: str | None) -> Place:
    """Whether the branch is there; a tag may be only where an earlier run of the same command would have made it."""
    if tag is None and branch == MAIN:
        return Place(repo.repo_id, repo, branch, branch_exists=True)
    branches, tags = hub.branches(repo.repo_id)
    if branch in tags and branch not in branches:
        raise ConflictError(
            branch,
            f"'{branch}' is a tag of {repo.repo_id}, and those don't move.",
            hint="name a branch, or leave out --revision",
        )
    exists = branch in branches or branch.startswith("refs/pr/")
    tagged = tag in tags
    if tagged and not (exists and hub.resolve(repo.repo_id, tag) == hub.resolve(repo.repo_id, branch)):
        raise tag_taken(repo.repo_id, tag)
    return Place(repo.repo_id, repo, branch, branch_exists=exists, tagged=tagged)


def _check_new(hub: Hub, repo_id: str, account: Account, wish: Wish) -> None:
    if wish.create_pr:
        raise NotFoundError(
            repo_id, f"There is no repo {repo_id} to propose to.", hint="leave out --create-pr and push makes it"
        )
    hub.require_role(repo_id, account)


def _check_visibility(repo: RepoInfo, private: bool | None) -> None:
    if private is None or private == repo.private:
        return
    is_, wanted = ("private", "public") if repo.private else ("public", "private")
    raise ConflictError(
        repo.repo_id,
        f"{repo.repo_id} is {is_}, and {wanted} was asked for; nothing was published.",
        hint=f"change it with 'hf repos settings {repo.repo_id} --{wanted}', or leave the flag out",
    )
