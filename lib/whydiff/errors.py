"""The one exception a user is meant to see: bad input, said in one line."""


class Trouble(Exception):
    """Something the user can put right: what is wrong, where, and what to do. Commands print it and exit with 2."""

    def __str__(self) -> str:
        return " ".join(" ".join(str(part) for part in self.args).split())


def did_you_mean(word: str, known) -> str:
    """``" Did you mean 'sigmas'?"``, of the words that begin with `word` where none is near, or nothing."""
    import difflib

    words = [str(k) for k in known]
    near = difflib.get_close_matches(str(word), words, n=1, cutoff=0.6)
    near = near or [k for k in words if len(str(word)) > 2 and k.lower().startswith(str(word).lower())][:3]
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def existing(path):
    """The path, or Trouble that names the nearest file beside it."""
    import pathlib

    path = pathlib.Path(path)
    if not path.exists():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise Trouble(f"{path} does not exist.{did_you_mean(path.name, beside)}")
    return path


class OutOfRuns(Exception):
    """The runs that a budget allows are used up. What was found so far still stands."""


def where_raised(error: BaseException) -> str:
    """`(sides.py, line 12, in port)`: the last frame outside whydiff and the libraries, else the last frame."""
    import pathlib
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "site-packages" not in f.filename and "/whydiff/" not in f.filename and not f.filename.startswith("<")]
    frame = (own or frames)[-1] if frames else None
    return f"({pathlib.Path(frame.filename).name}, line {frame.lineno}, in {frame.name})" if frame else ""
