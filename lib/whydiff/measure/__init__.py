"""How two tensors differ: pure functions over values, which know nothing of traces, sides or verdicts.

tensors.py     what counts as a tensor here, and how to read one
mapped.py      tensors that lie in files larger than memory
compare.py     how far one tensor is from another, and where
onepass/       all those figures from one read of both
pictures.py    how far one picture is from another, for a viewer
layouts.py     which rearrangement makes two tensors comparable
profiles.py    where an error sits: along tokens, channels, heads, frames, rows
relations.py   which simple change turns one tensor into the other
sampled.py     which of those can hold at all, told from some elements
outliers.py    which values of a list stand out from the rest of it
elementwise.py, rearranged.py   the changes that relations.py tries
"""
