"""Is an image file only the other side's image, saved in a format that loses detail?"""

from __future__ import annotations

import io

import torch
from PIL import Image, JpegImagePlugin

from whydiff.causes.finding import Explanation, Finding, explained_share
from whydiff.evidence.traces.image_file import picture
from whydiff.measure.pictures import round_to_8_bit, to_image

# Below this share the file may just as well hold another image. Encoders of one format differ by less.
ENOUGH = 0.9


def explain(finding: Finding, lab) -> list[Explanation]:
    """Save the other side's image as the file was saved, read it again, and see how much of the difference that is."""
    reference, candidate = (round_to_8_bit(image) for image in finding.pairs[0])
    for role, clean, lossy in (("candidate", reference, candidate), ("reference", candidate, reference)):
        path = getattr(lab.case, role).image
        if path is None or lab.evidence.get(role) != "image" or clean.shape[0] != 1 or clean.ndim != 4:
            continue
        with picture(lab.case.resolve(path)) as file:
            kind, found = file.format, [(explained_share(lossy, clean, again), how) for again, how in encodings(file, clean)]
        explained, how = max(found, default=(0.0, ""), key=lambda entry: entry[0])
        if explained >= ENOUGH:
            return [Explanation(
                id="lossy-image-format", statement=f"{role}'s image is the other side's, saved as {kind}, which loses detail",
                relation={"kind": "lossy_format", "side": role, "format": kind}, explained=explained, departs=role,
                experiment=f"saved the other side's image as {kind} {how} and read it again",
                fix=f"save {role}'s image as PNG")]  # fmt: skip
    return []


def encodings(file: Image.Image, image: torch.Tensor):
    """`image` saved in the format of `file` and read again, with words of how; nothing for a format that loses nothing."""
    picture = Image.fromarray((image[0] * 255).round().to(torch.uint8).squeeze(-1).numpy())
    if file.format == "JPEG":
        sampling = JpegImagePlugin.get_sampling(file)
        yield _again(picture, "JPEG", qtables=file.quantization, subsampling=sampling), "with the file's own tables"
    elif file.format == "WEBP":
        for quality in range(5, 101, 5):
            yield _again(picture, "WEBP", quality=quality), f"at quality {quality}"


def _again(picture: Image.Image, kind: str, **options) -> torch.Tensor:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    with Image.open(buffer) as read:
        return to_image(read.convert("RGB"))[0]
