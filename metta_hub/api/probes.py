"""The probe that is published with a policy: made here, or recorded elsewhere."""

from pathlib import Path

from metta_hub import policies
from metta_hub.api.remote import RepoFiles
from metta_hub.api.report import Report, warnings_told, working
from metta_hub.checkpoint import Checkpoint
from metta_hub.formats import repo as repo_format
from metta_hub.index import FileRecord
from metta_hub.names import CONFIG, PROBE


def make(checkpoint: Checkpoint, recorded: Path | None, target: Path, report: Report) -> Path:
    """Write the probe of a checkpoint's policy.

    Args:
        checkpoint: as it will be published.
        recorded: a file with a probe that is checked and taken; None makes one.
        target: where it is written.
        report: shown how far the work is.

    Raises:
        BadTypeError: its architecture is somebody else's, and has no `evaluate`.
        MettaHubError: the policy cannot be built, or has no actions yet.
        FormatError: the file's probe is that of another policy, or damaged.
    """
    policies.require_torch()
    from metta_hub.policies import probing
    from metta_hub.policies.policy import ours

    with working(report, "probe"), warnings_told(report):
        policy = ours(policies.build(checkpoint))
        if recorded is None:
            return probing.write(probing.make(policy), target)
        probe = probing.read(recorded, policy)
        compared = probing.compare(policy, probe)
    if not compared.ok:
        report("warning", f"the policy puts out other numbers here, by up to {compared.max_difference:.1e}.")
    return probing.write(probe, target)


def listed(repo: RepoFiles) -> FileRecord | None:
    """The probe of a repo's root; None when there is none, or it is a file that no publication listed."""
    if not {PROBE, CONFIG} <= repo.sizes.keys():
        return None
    return repo_format.parse_config(repo.document(CONFIG)).files.get(PROBE)
