"""In what do two scheduler recipes differ, and which of it makes the difference?"""

from __future__ import annotations

from collections.abc import Callable

from whydiff.causes.finding import Explanation
from whydiff.causes.schedule.keys import CAUSE_OF, EQUIVALENT, cause_of, differing
from whydiff.causes.schedule.recipe import Recipe
from whydiff.causes.table import BY_ID

ARGUMENT = "set_timesteps: "  # marks a key that is an argument and no configuration


def keys_apart(mine: Recipe, theirs: Recipe) -> list[str]:
    """Keys of the configuration that both state differently, then "class", then arguments of `set_timesteps`."""
    keys = differing(mine.config, theirs.config)
    if mine.kind is not theirs.kind:
        keys = [k for k in keys if k not in by_class(mine, theirs)] + ["class"]
    names = dict.fromkeys([*mine.arguments, *theirs.arguments])
    if mine.kind is not theirs.kind:  # a pipeline passes what the class takes; only what both receive is a choice
        names = [n for n in names if n in mine.arguments and n in theirs.arguments]
    return keys + [ARGUMENT + n for n in names if mine.arguments.get(n) != theirs.arguments.get(n)]


def by_class(mine: Recipe, theirs: Recipe) -> list[str]:
    """Keys that differ because each class has a default of its own: they come with the class, and nobody set them."""
    return [k for k in differing(mine.config, theirs.config)
            if mine.config[k] == mine.default(k) and theirs.config[k] == theirs.default(k)]  # fmt: skip


def value(recipe: Recipe, key: str):
    """What a recipe says under a key of `keys_apart`."""
    if key == "class":
        return recipe.name
    return recipe.arguments.get(key.removeprefix(ARGUMENT)) if key.startswith(ARGUMENT) else recipe.config.get(key)


def mixed(theirs: Recipe, mine: Recipe, keys) -> Recipe:
    """`theirs` with what `mine` says under `keys`; with another class, also the keys that come with it."""
    config = {k: mine.config[k] for k in keys if k in mine.config}
    made = theirs.with_config(**config)
    if "class" in keys:
        made = made.with_kind(mine.kind).with_config(
            **{k: v for k, v in mine.config.items() if k not in theirs.config or k in by_class(mine, theirs)})  # fmt: skip
        both = {n: v for n, v in theirs.arguments.items() if n in mine.arguments}
        made = made.with_arguments(**dict.fromkeys(theirs.arguments)).with_arguments(**mine.arguments | both)
    given = [k.removeprefix(ARGUMENT) for k in keys if k.startswith(ARGUMENT)]
    return made.with_arguments(**{name: mine.arguments.get(name) for name in given})


def smallest(mine: Recipe, theirs: Recipe, works: Callable[[Recipe], bool]) -> list[str] | None:
    """The fewest keys that `theirs` must take over from `mine` for `works` to hold; None where not even all of them do."""
    keys = keys_apart(mine, theirs)
    if not keys or not works(mixed(theirs, mine, keys)):
        return None
    for key in keys:
        if works(mixed(theirs, mine, [key])):
            return [key]
    left = list(keys)
    for key in keys:
        rest = [k for k in left if k != key]
        if rest and works(mixed(theirs, mine, rest)):
            left = rest
    return left


def at_defaults(recipe: Recipe, other: Recipe) -> list[str]:
    """Keys in which two configurations of one class differ, if one side holds the class's own default in all of them."""
    keys = differing(recipe.config, other.config)
    return keys if keys and recipe.kind is other.kind and all(recipe.config[k] == recipe.default(k) for k in keys) else []


def name_of(keys: list[str], mine: Recipe, theirs: Recipe) -> tuple[str, list[str], str]:
    """(id, equivalent ids, who departs) of a difference in `keys`.

    A side whose every differing key is what its class takes by itself ignored the other's configuration.
    """
    ids = list(dict.fromkeys(cause_of(k) for k in keys))
    ignored = "checkpoint-scheduler-config-ignored"
    for role, one, other in (("candidate", theirs, mine), ("reference", mine, theirs)):
        fallen = at_defaults(one, other)
        if len(fallen) > 1 and set(keys) <= set(fallen):
            return ignored, [i for i in ids if i != "scheduler-config"], role
        if fallen and len(keys) == 1:
            return ids[0], list(dict.fromkeys([ignored, *EQUIVALENT.get(ids[0], [])])), "unknown"
    if "class" in keys:
        return "solver-class", [], "unknown"
    if len(ids) == 1 and (len(keys) == 1 or all(k in CAUSE_OF for k in keys)):
        return ids[0], EQUIVALENT.get(ids[0], []), "unknown"
    return ignored, [i for i in ids if i != "scheduler-config"], "unknown"


def sentence(keys: list[str], mine: Recipe, theirs: Recipe) -> str:
    if keys == ["class"]:
        return f"candidate's scheduler is {theirs.name}, the reference's {mine.name}"
    return f"candidate's {theirs.name} has {words(keys, mine, theirs)}"


def words(keys: list[str], mine: Recipe, theirs: Recipe) -> str:
    """"beta_schedule 'linear' instead of 'scaled_linear'": the candidate's values beside the reference's."""
    return ", ".join(f"{key} {spelled(value(theirs, key))} instead of {spelled(value(mine, key))}" for key in keys)


def spelled(held) -> str:
    if isinstance(held, (list, tuple)):
        return f"a list of {len(held)}"
    return f"{held:.6g}" if isinstance(held, float) else repr(held)


def plain(held):
    """A value of a configuration as JSON holds it."""
    return held if held is None or isinstance(held, (bool, int, float, str)) else str(held)


def explanation(keys, mine: Recipe, theirs: Recipe, experiment: str, covers: set[str] = frozenset()) -> Explanation:
    """The cause that differing keys of two schedulers are, once `experiment` has shown that they explain the difference."""
    id_, equivalent, departs = name_of(keys, mine, theirs)
    return Explanation(
        id=id_, equivalent=equivalent, departs=departs, stage=BY_ID[id_].stage, explained=1.0, statement=sentence(keys, mine, theirs),
        relation={"kind": "scheduler_config", "keys": list(keys), "reference": {k: plain(value(mine, k)) for k in keys},
                  "candidate": {k: plain(value(theirs, k)) for k in keys}},
        experiment=experiment, covers=set(covers),
        fix=f"build the candidate's scheduler from the reference's configuration ({words(keys, mine, theirs)})")  # fmt: skip
