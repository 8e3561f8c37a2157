"""Lists of token ids: what one rule makes of another, told without a tokenizer. 180 starts a text, 181 ends it."""

from whydiff.causes.prompt import tokens

BOS, EOS = 180, 181
TEXT = [BOS, 7, 8, 9, EOS]


def padded(ids, pad, length=10):
    return ids + [pad] * (length - len(ids))


def test_rows_that_differ_behind_the_text_alone_are_padded_otherwise():
    assert tokens.padded_otherwise(padded(TEXT, EOS), padded(TEXT, 0)) == (EOS, 0)
    assert tokens.padded_otherwise([0, 0, 0, 5, 6], [1, 1, 1, 5, 6]) == (0, 1)


def test_padding_in_front_is_the_same_row_turned():
    assert tokens.padded_in_front([EOS] * 5 + TEXT, padded(TEXT, EOS))
    assert not tokens.padded_in_front([0] * 5 + TEXT, padded(TEXT, EOS))
    assert not tokens.padded_in_front([EOS, 7, 8, 9], [7, 8, 9, EOS])  # an end token at the wrong end is no padding


def test_a_missing_end_token_is_no_other_padding():
    assert tokens.padded_otherwise(padded([5, 6, 1], 0), padded([5, 6], 0)) is None
    assert tokens.padded_otherwise(padded(TEXT, 0), padded([BOS, 7, 8, 5, EOS], 0)) is None


def test_a_token_in_front_is_found_also_where_the_end_is_cut_off():
    assert tokens.leading_token(padded(TEXT, EOS), padded([BOS, *TEXT], EOS)) == BOS
    assert tokens.leading_token([BOS, 1, 2, 3, EOS], [BOS, BOS, 1, 2, EOS]) == BOS
    assert tokens.leading_token([5, 6, 7], [4, 5, 6, 7]) == 4
    assert tokens.leading_token(padded(TEXT, EOS), padded([BOS, 3, 7, 8, 9, EOS], EOS)) is None


def test_a_template_is_what_stands_around_the_bare_text():
    assert tokens.wrapped(padded(TEXT, 0), padded([BOS, 1, 2, 7, 8, 9, 3, EOS], 0)) == ([1, 2], [3])
    assert tokens.wrapped([7, 8, 9, 4], [1, 2, 7, 8, 9, 4, 3, 3]) == ([1, 2], [])
    assert tokens.wrapped(padded(TEXT, 0), padded([BOS, 7, 5, 9, EOS], 0)) is None


def test_a_template_that_pushes_the_text_off_the_end_is_still_found():
    assert tokens.wrapped(padded([7, 8, 9, 4, 1], 0, 6), [2, 3, 5, 7, 8, 1]) == ([2, 3, 5], [])


def test_a_longer_text_is_no_template():
    assert tokens.wrapped(padded([7, 8, 9, 1], 0), padded([7, 8, 5, 9, 1], 0)) is None


def test_the_pad_token_as_a_word_is_told_from_other_words():
    own, other = padded([BOS, 7, 0, 0, 0, EOS], 0), padded([BOS, 7, 55, EOS], EOS)
    assert tokens.swallowed(own, other) == 0
    assert tokens.swallowed(padded([BOS, 7, 5, EOS], 0), padded([BOS, 7, 55, EOS], EOS)) is None
    assert tokens.swallowed(padded(TEXT, 0), padded(TEXT, EOS)) is None  # nothing but the padding


def test_placeholders_of_an_image_are_one_id_many_times():
    text = [1, 2, 3, 4, 9]
    assert tokens.placeholders_left_out(padded(text, 0), padded([1, 2, 50, *[51] * 6, 52, 3, 4, 9], 0, 16)) == 6
    assert tokens.placeholders_left_out(padded(text, 0), padded([1, 2, 10, 11, 12, 13, 14, 3, 4, 9], 0, 16)) is None


def test_a_row_without_its_padding():
    assert tokens.body(padded(TEXT, 0)) == TEXT
    assert tokens.body([0, 0, 0, 5, 6]) == [5, 6]
    assert tokens.padding([5, 6, 7]) is None
