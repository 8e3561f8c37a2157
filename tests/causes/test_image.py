"""What becomes of the decoded values until they are a picture."""

import torch
from recorded_lab import finding, lab_of, normal, trace

from whydiff.causes.image import colour, conversion

DECODED = 0.9 * normal(1, 3, 16, 16, seed=1)
UNIT = (DECODED.movedim(1, -1) / 2 + 0.5).double()
PLAIN = ((UNIT.clamp(0, 1) * 255).round() / 255).float()


def explained(explain, mine, theirs, decoded=DECODED, between=None):
    lab = lab_of(*(trace({"decoded": decoded, "image": t}) for t in (mine, theirs)))
    lab.between = between or {}
    return [(c.id, c.departs) for c in explain(finding(lab, "image"), lab)]


def test_eight_bit_cut_off_or_wrapped_on_either_side():
    floor = ((UNIT.clamp(0, 1) * 255).floor() / 255).float()
    wrapped = ((UNIT * 255).round() % 256 / 255).float()
    assert explained(conversion.explain_conversion, PLAIN, floor) == [("uint8-truncation", "candidate")]
    assert explained(conversion.explain_conversion, floor, PLAIN) == [("uint8-truncation", "reference")]
    assert explained(conversion.explain_conversion, PLAIN, wrapped) == [("clamp-missing", "candidate")]
    assert explained(conversion.explain_conversion, PLAIN, (PLAIN + 1 / 255).clamp(0, 1)) == []


def test_a_float_picture_tells_truncation_without_decoded_values():
    exact = UNIT.clamp(0, 1).float()
    lab = lab_of(trace({"image": exact}), trace({"image": ((exact.double() * 255).floor() / 255).float()}))
    assert [c.id for c in conversion.explain_conversion(finding(lab, "image"), lab)] == ["uint8-truncation"]


def test_placeholders():
    assert explained(conversion.explain_blank, PLAIN, PLAIN * 0) == [("failure-masked-as-output", "candidate")]
    assert explained(conversion.explain_blank, PLAIN * 0, PLAIN) == [("failure-masked-as-output", "reference")]
    assert explained(conversion.explain_blank, PLAIN, 1 - PLAIN) == []
    assert explained(conversion.explain_blank, PLAIN, PLAIN * 0, decoded=DECODED * 0 - 2) == []


def test_black_where_the_decoder_gave_nan():
    broken = DECODED.clone()
    broken[0, :, 3, 4] = float("nan")
    black = PLAIN.clone()
    black[0, 3, 4] = 0
    for made, expected in ((black, ["nan-cast-to-black"]), (PLAIN, [])):
        lab = lab_of(trace({"decoded": DECODED, "image": PLAIN}), trace({"decoded": broken, "image": made}))
        assert [c.id for c in conversion.explain_nan(finding(lab, "decoded"), lab)] == expected


def test_a_pattern_that_two_requests_share_is_a_watermark():
    mark = 4 / 255 * normal(1, 16, 16, 3, seed=4).sign()
    other = 0.5 * normal(1, 3, 16, 16, seed=5)

    def marked(decoded, mark):
        return ((conversion.plainly(decoded).movedim(1, -1) + mark).clamp(0, 1) * 255).round() / 255

    again = trace({"decoded": other, "image": marked(other, mark)})
    assert explained(conversion.explain_watermark, PLAIN, marked(DECODED, mark), between={"candidate": again}) == [("watermark-added", "unknown")]
    unlike = trace({"decoded": other, "image": marked(other, mark.flip(1))})
    assert explained(conversion.explain_watermark, PLAIN, marked(DECODED, mark), between={"candidate": unlike}) == []


def test_colour_range_and_matrix():
    picture = torch.rand(1, 24, 24, 3, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    for words, matrix, offset in colour.mistakes():
        theirs = ((picture.double() @ matrix.T + offset) * 255).round() / 255
        assert explained(colour.explain, picture, theirs.float()) == [("video-range-tag", "unknown")], words
    assert explained(colour.explain, picture, picture**1.2) == []
    assert explained(colour.explain, picture, 0.9 * picture) == []


def test_colour_channels_in_another_order():
    assert explained(conversion.explain_channels, PLAIN, PLAIN.flip(-1)) == [("rgb-bgr", "candidate")]


def test_a_value_on_the_edge_between_two_levels_may_round_either_way_in_a_small_picture():
    other = PLAIN.clone(memory_format=torch.contiguous_format)
    other.view(-1)[0] += 1 / 255
    assert conversion.same_levels(PLAIN, other)
    other.view(-1)[1:40] += 1 / 255
    assert not conversion.same_levels(PLAIN, other)
