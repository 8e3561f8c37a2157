"""Which frames a layer sees: the closed form against a ring that is written slot by slot, and the published rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whydiff.formulas.frame_memory import Window, find_window, first_difference

LOCAL, GLOBAL = Window(16), Window(128, 8)
# frame: local, global, oldest in global, newest past in global, a flat cache of 129; measured on world_engine @208c909 kv_cache.py
ROWS = {0: (1, 1, 0, None, 1), 1: (2, 2, 0, 1, 2), 2: (3, 2, 0, 2, 3), 8: (9, 2, 0, 8, 9), 9: (10, 3, 0, 1, 10), 15: (16, 3, 0, 7, 16),
        16: (16, 3, 0, 8, 17), 60: (16, 9, 0, 4, 61), 120: (16, 16, 0, 8, 121), 127: (16, 17, 0, 7, 128), 128: (16, 16, 8, 8, 129),
        159: (16, 17, 32, 7, 129), 239: (16, 17, 112, 7, 129)}  # fmt: skip


def slot_by_slot(slots, dilation, frames):
    """What each frame sees, by a ring that is really written."""
    ring, seen = [None] * slots, []
    for frame in range(frames):
        kept = frame % dilation == 0
        slot = frame // dilation % slots
        seen.append((*sorted(f for i, f in enumerate(ring) if f is not None and not (kept and i == slot)), frame))
        if kept:
            ring[slot] = frame
    return seen


@pytest.mark.parametrize("frame", ROWS)
def test_the_published_table_of_visible_frames_is_computed(frame):
    pin = GLOBAL.seen(frame)
    assert (len(LOCAL.seen(frame)), len(pin), pin[0], GLOBAL.newest_past(frame), len(Window(129).seen(frame))) == ROWS[frame]


@given(slots=st.integers(1, 9), dilation=st.integers(1, 6), frames=st.integers(1, 90))
def test_a_window_shows_what_a_ring_holds(slots, dilation, frames):
    window = Window(slots * dilation, dilation)
    assert [window.seen(t) for t in range(frames)] == slot_by_slot(slots, dilation, frames)


@given(slots=st.integers(2, 4), dilation=st.integers(1, 3))
def test_a_window_is_found_from_what_was_seen(slots, dilation):
    frames = (slots + 1) * dilation + 1
    seen = [Window(slots * dilation, dilation).seen(t) for t in range(frames)]
    assert [find_window(seen).seen(t) for t in range(frames)] == seen
    assert find_window(seen).dilation == dilation


def test_what_no_window_shows_is_not_explained():
    assert find_window([(0,), (1,), (0, 1, 2)]) is None


def test_a_flat_cache_departs_in_frame_2_and_in_local_layers_in_frame_16():
    assert first_difference([LOCAL, GLOBAL], [Window()] * 2, 300) == 2
    assert first_difference([LOCAL], [Window()], 300) == 16
    assert first_difference([LOCAL], [LOCAL], 300) is None


def test_a_window_that_its_dilation_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiples"):
        Window(9, 2)
