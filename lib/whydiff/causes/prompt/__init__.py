"""Do both text encoders see the same tokens, and make the same embeddings of them? One file per idea, cheapest asked first."""

from __future__ import annotations

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.prompt import batches, branches, ids, inside, layers, masks, noted, pooled, rows
from whydiff.causes.prompt.follow import first

# What the recorded rows say comes first; then live encoders under other rules, those that need fewest runs before the others.
_EMBEDS = (branches.zeros, branches.exchanged, rows.padding_zeroed, rows.shifted, noted.explain, batches.explain, masks.explain,
           rows.rescaled, layers.explain, pooled.explain, inside.exempt_lost, inside.shared_tables)  # fmt: skip
_NOT_FINITE = (noted.explain, inside.exempt_lost, masks.explain, inside.nonfinite)
# Arguments of the network that carry embeddings: what a pipeline does to them after it encoded the prompt shows there.
_TEXT_ARGUMENTS = ("encoder_hidden_states", "pooled_projections", "text_embeds", "prompt_embeds", "context", "txt", "cap_feats")


def explain_ids(finding: Finding, lab) -> list[Explanation]:
    """Token ids that differ: which rule, or which other text, makes them?"""
    return first((ids.explain,), finding, lab)


def explain_batches(finding: Finding, lab) -> list[Explanation]:
    """Token ids of other lengths, because one side's depend on the other prompts of the batch."""
    return first((batches.explain_rows,), finding, lab)


def explain_id_lengths(finding: Finding, lab) -> list[Explanation]:
    """Token ids of other lengths, once no setting was found that makes them alike."""
    return first((ids.explain_lengths,), finding, lab)


def explain_mask(finding: Finding, lab) -> list[Explanation]:
    """Attention masks of the text encoders that differ."""
    return first((ids.explain_mask,), finding, lab)


def explain_embeds(finding: Finding, lab) -> list[Explanation]:
    """Same ids, other embeddings."""
    if finding.place not in finding.candidate:
        return []
    return first(_EMBEDS if _finite(finding) else _NOT_FINITE, finding, lab)


def explain_embed_shapes(finding: Finding, lab) -> list[Explanation]:
    """Embeddings with other numbers of rows or channels."""
    return first((rows.explain_shapes, layers.explain), finding, lab)


def explain_network_input(finding: Finding, lab) -> list[Explanation]:
    """Embeddings as the network receives them, where they were the same when the prompt had been encoded."""
    if finding.probe.rpartition("/")[2] not in _TEXT_ARGUMENTS or not _finite(finding):
        return first((masks.of_network,), finding, lab)
    return first((branches.exchanged, branches.zeros, rows.padding_zeroed, rows.shifted), finding, lab)


def explain_network_input_shapes(finding: Finding, lab) -> list[Explanation]:
    """Embeddings of other lengths as the network receives them."""
    return rows.explain_shapes(finding, lab) if finding.probe.rpartition("/")[2] in _TEXT_ARGUMENTS else []


def _finite(finding: Finding) -> bool:
    return all(bool(t.isfinite().all()) for pair in finding.pairs for t in pair)
