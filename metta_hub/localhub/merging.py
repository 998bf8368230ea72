"""Pull requests against their branch: the difference, the files in conflict, the merge."""

from dataclasses import dataclass
from io import BytesIO

from dulwich.diff_tree import TreeChange, tree_changes
from dulwich.graph import find_merge_base
from dulwich.objects import ObjectID
from dulwich.patch import write_object_diff

from metta_hub.localhub.gitrepo import GitRepo
from metta_hub.localhub.gitwriter import GitWriter
from metta_hub.localhub.trees import TreeEditor, find

# Line by line comparison takes time that grows with the square of the lines.
_MAX_COMPARED = 128 * 1024
_MAX_DIFF = 1024 * 1024
FileChanges = dict[str, tuple[int, ObjectID] | None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a pull request changes, and whether that still fits its branch.

    Attributes:
        base: the last commit that both share.
        changes: path -> the new file's mode and id, or None where it was removed.
        conflicts: the paths that the branch has changed otherwise meanwhile.
    """

    base: ObjectID
    changes: FileChanges
    conflicts: list[str]


def compare(git: GitRepo, branch: ObjectID, proposal: ObjectID) -> Comparison:
    """Compare a pull request's head with its branch's, file by file."""
    bases = find_merge_base(git.raw, [branch, proposal])
    base = bases[0] if bases else branch
    theirs = _changes(git, base, proposal)
    ours = _changes(git, base, branch)
    conflicts = sorted(path for path, file in theirs.items() if path in ours and ours[path] != file)
    return Comparison(base, theirs, conflicts)


def merged_tree(git: GitWriter, branch: ObjectID, comparison: Comparison) -> ObjectID:
    """The branch's tree with the pull request's changes; there must be no conflicts."""
    root = git.tree(branch)
    editor = TreeEditor(git.objects, root)
    for path, file in comparison.changes.items():
        if file is None and find(git.objects, root, path):
            editor.remove(path)
    for path, file in comparison.changes.items():
        if file is not None:
            mode, sha = file
            editor.put(path, sha, mode)
    return git.write_tree(editor)


def diff_text(git: GitRepo, old: ObjectID, new: ObjectID) -> str:
    """What changed between two commits as a patch; large files are only named."""
    out = BytesIO()
    for change in tree_changes(git.objects, git.tree(old), git.tree(new)):
        if out.tell() > _MAX_DIFF:
            out.write(b"(more files changed)\n")
            break
        before, after = change.old, change.new
        if all(len(git.blob(side.sha)) <= _MAX_COMPARED for side in (before, after) if side and side.sha):
            old_file = (before.path, before.mode, before.sha) if before else (None, None, None)
            new_file = (after.path, after.mode, after.sha) if after else (None, None, None)
            write_object_diff(out, git.objects, old_file, new_file)
        else:
            out.write(b"Large files differ: " + _path(change).encode() + b"\n")
    return out.getvalue().decode("utf-8", "replace")


def _changes(git: GitRepo, old: ObjectID, new: ObjectID) -> FileChanges:
    return {
        _path(change): (change.new.mode, change.new.sha) if change.new and change.new.sha else None
        for change in tree_changes(git.objects, git.tree(old), git.tree(new))
    }


def _path(change: TreeChange) -> str:
    side = change.new if change.new and change.new.path else change.old
    return (side.path or b"").decode() if side else ""
