"""The `.pt` of a checkpoint: the author's own bytes where they are known, else one made from the tensors."""

from pathlib import Path

from metta_hub.checkpoint import Checkpoint
from metta_hub.containers import copying, recipe, torch_file, torch_zip
from metta_hub.containers.copying import Written
from metta_hub.formats import files


def write_pt(checkpoint: Checkpoint, target: Path) -> tuple[Written, bool]:
    """Write the `.pt`; says whether it is the author's own file, byte for byte.

    Raises:
        NotPlainError: the recipe gives back a `.pt` that asks for more than tensors.
        FormatError: a recipe is damaged, or the tensors cannot stand in a `.pt`.
        ChecksumError: what lies in an archive is not what it records.
    """
    origin = checkpoint.origin
    if origin.pt is not None:
        return copying.copy(origin.pt, target), True
    if origin.packed is not None:
        return copying.unpack(origin.packed, target), True
    if origin.recipe is not None:
        restored = recipe.restore(files.read_document(origin.recipe), checkpoint.weights, target, origin.recipe)
        torch_file.read(target)  # a recipe is a stranger's: what it gives back is judged like any other `.pt`
        return restored, True
    return torch_zip.write(checkpoint.weights, target, archive_name=checkpoint.name), False
