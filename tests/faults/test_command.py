"""`whydiff faults` from the command line."""

from whydiff import cli


def test_an_unknown_id_is_answered_with_the_nearest(capsys, tmp_path):
    assert cli.run(["faults", "--only", "shift-constnat", "--out", str(tmp_path)]) == 2
    assert "Did you mean 'shift-constant'?" in capsys.readouterr().err


def test_an_unknown_suite_is_answered_with_the_nearest(capsys, tmp_path):
    assert cli.run(["faults", "--suite", "mutation", "--out", str(tmp_path)]) == 2
    assert "Did you mean 'mutations'?" in capsys.readouterr().err


def test_one_fault_is_planted_judged_and_kept(capsys, tmp_path):
    assert cli.run(["faults", "--only", "rgb-bgr", "--out", str(tmp_path)]) == 0
    assert "right cause named first, all | 100.0 % | 1 / 1" in capsys.readouterr().out
    assert {p.name for p in tmp_path.iterdir()} == {"results.jsonl", "table.md", "misses.txt", "faults.json"}
