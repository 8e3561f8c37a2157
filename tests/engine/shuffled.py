"""A copy of a module tree that computes the same under random names: built for tests, its counterparts known by construction.

Names of modules and parameters are random, children are registered in random order, linear layers are split, interleaved by
heads or stored transposed, and branches that do not depend on each other run in random order.
"""

import copy
import random
import string

import torch
from torch import nn


def shuffled(module: nn.Module, seed: int):
    """(copy, truth): `truth[name of a parameter of the copy]` is the name of the parameter of `module` that it is made from."""
    rng = random.Random(seed)
    twin = copy.deepcopy(module)
    for name, parameter in twin.named_parameters():
        parameter.origin = name
    for inner in list(twin.modules()):
        _reorder_calls(inner, rng)
    for inner in list(twin.modules()):
        for name, child in list(inner.named_children()):
            if type(child) is nn.Linear:
                setattr(inner, name, _recast(child, rng))
    for inner in list(twin.modules()):
        _rename(inner, rng)
    return twin, {name: parameter.origin for name, parameter in twin.named_parameters()}


# --- names --------------------------------------------------------------------------------------------------------


def _word(rng) -> str:
    return "".join(rng.choices(string.ascii_lowercase, k=6))


def _rename(module: nn.Module, rng) -> None:
    """Random attribute names for children and parameters; code that asks for the old ones still finds them."""
    logical = list(module._modules.values())
    alias = {}
    for held in (module._modules, module._parameters):
        items = [(old, _word(rng), value) for old, value in held.items()]
        rng.shuffle(items)
        held.clear()
        for old, new, value in items:
            alias[old] = new
            held[new] = value
    plain = type(module)

    def __getattr__(self, name):
        return plain.__getattr__(self, alias.get(name, name))

    body = {"__getattr__": __getattr__}
    if isinstance(module, (nn.Sequential, nn.ModuleList)):
        body |= {"__iter__": lambda self: iter(logical), "__getitem__": lambda self, i: logical[i], "__len__": lambda self: len(logical)}
    own = plain.__module__.startswith("torch.nn")
    module.__class__ = type(plain.__name__ if own else _word(rng).title(), (plain,), body)


# --- linear layers ------------------------------------------------------------------------------------------------


def _recast(linear: nn.Linear, rng) -> nn.Module:
    height, width = linear.weight.shape
    kinds = [lambda: linear, lambda: Transposed(linear)]
    if height == 3 * width:
        kinds += [lambda: Split(linear, 3, rng), lambda: Interleaved(linear, 3, 4)]
    if height == 7 * width:  # q, k, v and a feed-forward of four widths
        kinds += [lambda: Split(linear, 7, rng)]
    return rng.choice(kinds)()


def _part(linear: nn.Linear, rows) -> nn.Linear:
    part = nn.Linear(linear.in_features, len(rows), bias=linear.bias is not None)
    for name, own in linear.named_parameters():
        value = nn.Parameter(own.detach()[rows].clone(), requires_grad=False)
        value.origin = own.origin
        setattr(part, name, value)
    return part


class Split(nn.Module):
    """One linear layer as several, run in random order."""

    def __init__(self, linear: nn.Linear, count: int, rng):
        super().__init__()
        size = linear.out_features // count
        ends = [*range(size, 4 * size, size), linear.out_features][: count if count <= 3 else 4]
        ends[-1] = linear.out_features
        for index, (start, stop) in enumerate(zip([0, *ends], ends, strict=False)):
            self.add_module(str(index), _part(linear, list(range(start, stop))))
        self.count = len(ends)
        self.order = rng.sample(range(self.count), self.count)

    def forward(self, x):
        parts = {index: getattr(self, str(index))(x) for index in self.order}
        return torch.cat([parts[index] for index in range(self.count)], dim=-1)


class Interleaved(nn.Module):
    """q, k and v of one head side by side, then those of the next."""

    def __init__(self, linear: nn.Linear, count: int, heads: int):
        super().__init__()
        rows = torch.arange(linear.out_features).view(count, heads, -1).transpose(0, 1).reshape(-1)
        self.inner = _part(linear, rows.tolist())
        self.back = torch.argsort(rows)

    def forward(self, x):
        return self.inner(x)[..., self.back]


class Transposed(nn.Module):
    """The weight stored (in, out)."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.kernel = nn.Parameter(linear.weight.detach().T.contiguous(), requires_grad=False)
        self.kernel.origin = linear.weight.origin
        self.offset = None
        if linear.bias is not None:
            self.offset = linear.bias

    def forward(self, x):
        return torch.nn.functional.linear(x, self.kernel.T, self.offset)


# --- order of calls -----------------------------------------------------------------------------------------------


def _in_order(rng, tasks: dict):
    """Run the tasks in a random order that stays the same for this copy."""
    order = rng.sample(sorted(tasks), len(tasks))
    return lambda given: {name: given[name]() for name in order}


def _reorder_calls(module: nn.Module, rng) -> None:
    make = {"DoubleStreamBlock": _double, "SingleStreamBlock": _single, "QKNorm": _qk_norm, "FinalLayer": _final,
            "FluxTransformer": _transformer, "ResnetBlock": _resnet}.get(type(module).__name__)  # fmt: skip
    if make is not None:
        plain = type(module)
        module.__class__ = type(plain.__name__, (plain,), {"forward": make(module, rng), "__module__": plain.__module__})


def _double(module, rng):
    from native_flux.transformer import attend

    early, late = _in_order(rng, dict.fromkeys("it")), _in_order(rng, dict.fromkeys("it"))

    def forward(self, img, txt, vec, rotary):
        streams = {"i": ("img", img), "t": ("txt", txt)}

        def begin(key):
            name, x = streams[key]
            mod = getattr(self, f"{name}_mod")(vec)
            return mod, getattr(self, f"{name}_attn")(getattr(self, f"{name}_norm1")(x) * (1 + mod[1]) + mod[0])

        begun = early({key: lambda key=key: begin(key) for key in streams})
        joint = attend(*(torch.cat(pair, dim=2) for pair in zip(begun["t"][1], begun["i"][1], strict=True)), rotary)
        cut = {"t": joint[:, : txt.shape[1]], "i": joint[:, txt.shape[1] :]}

        def end(key):
            name, x = streams[key]
            mod = begun[key][0]
            x = x + mod[2] * getattr(self, f"{name}_attn").proj(cut[key])
            return x + mod[5] * getattr(self, f"{name}_mlp")(getattr(self, f"{name}_norm2")(x) * (1 + mod[4]) + mod[3])

        done = late({key: lambda key=key: end(key) for key in streams})
        return done["i"], done["t"]

    return forward


def _single(module, rng):
    from einops import rearrange
    from native_flux.transformer import attend

    order = _in_order(rng, dict.fromkeys("mn"))

    def forward(self, x, vec, rotary):
        first = order({"m": lambda: self.modulation(vec), "n": lambda: self.pre_norm(x)})
        shift, scale, gate = first["m"]
        qkv, mlp = self.linear1(first["n"] * (1 + scale) + shift).split(self.split, dim=-1)
        q, k, v = rearrange(qkv, "b l (three h d) -> three b h l d", three=3, h=self.heads)
        attention = attend(*self.norm(q, k), v, rotary)
        return x + gate * self.linear2(torch.cat([attention, torch.nn.functional.gelu(mlp, approximate="tanh")], dim=-1))

    return forward


def _qk_norm(module, rng):
    order = _in_order(rng, dict.fromkeys("qk"))

    def forward(self, q, k):
        done = order({"q": lambda: self.query_norm(q), "k": lambda: self.key_norm(k)})
        return done["q"], done["k"]

    return forward


def _final(module, rng):
    order = _in_order(rng, dict.fromkeys("mn"))

    def forward(self, x, vec):
        done = order({"m": lambda: self.modulation(vec), "n": lambda: self.norm(x)})
        shift, scale = done["m"]
        return self.linear(done["n"] * (1 + scale) + shift)

    return forward


def _transformer(module, rng):
    from native_flux.transformer import TIME_FACTOR, sinusoids

    order = _in_order(rng, dict.fromkeys("tgyix"))

    def forward(self, img, txt, y, timestep, guidance, rotary):
        done = order({
            "t": lambda: self.time_in(sinusoids(timestep.to(img.dtype) * TIME_FACTOR).to(y.dtype)),
            "g": lambda: self.guidance_in(sinusoids(guidance.to(img.dtype) * TIME_FACTOR).to(y.dtype)),
            "y": lambda: self.vector_in(y), "i": lambda: self.img_in(img), "x": lambda: self.txt_in(txt)})  # fmt: skip
        vec, img, txt = done["t"] + done["g"] + done["y"], done["i"], done["x"]
        for block in self.double_blocks:
            img, txt = block(img, txt, vec, rotary)
        x = torch.cat([txt, img], dim=1)
        for block in self.single_blocks:
            x = block(x, vec, rotary)
        return self.final_layer(x[:, txt.shape[1] :], vec)

    return forward


def _resnet(module, rng):
    order = _in_order(rng, dict.fromkeys("sh"))

    def forward(self, x):
        silu = torch.nn.functional.silu
        done = order({"s": lambda: self.nin_shortcut(x), "h": lambda: self.conv2(silu(self.norm2(self.conv1(silu(self.norm1(x))))))})
        return done["s"] + done["h"]

    return forward
