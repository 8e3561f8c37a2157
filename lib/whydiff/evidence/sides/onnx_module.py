"""An exported network in the place of the module it was exported from, so that a pipeline runs with it."""

from __future__ import annotations

import contextlib
import inspect
import pathlib

import numpy as np
import torch

from whydiff.errors import Trouble


class OnnxModule(torch.nn.Module):
    """`pipe.transformer = OnnxModule("transformer.onnx", like=pipe.transformer)`: what onnxruntime makes of the graph.

    `like` is the module that was exported: its signature, configuration and type are taken over, its weights are not. `method` is
    the one whose graph this is (`"decode"` of a VAE). The graph's inputs must have the names of the method's arguments, which is
    what `torch.onnx.export` gives them. `optimize=False` runs the graph as it was exported: onnxruntime's optimisations leave out
    some of what is wrong in it, such as dropout of a network exported in training mode, and other runtimes do not.

    Raises Trouble where onnxruntime is missing, or the file is no graph it can run.
    """

    def __init__(self, path, like: torch.nn.Module, method: str = "forward", optimize: bool = True,
                 providers=("CPUExecutionProvider",)):  # fmt: skip
        super().__init__()
        try:
            import onnxruntime
        except ImportError:
            raise Trouble("running an ONNX file takes onnxruntime. Run pip install 'whydiff[onnx]'.") from None
        self.path, self.method = pathlib.Path(path), method
        if not self.path.is_file():
            raise Trouble(f"{path} does not exist.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        if not optimize:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=list(providers))
        except Exception as error:  # onnxruntime's errors share no class
            raise Trouble(f"{path}: onnxruntime cannot run it ({str(error).splitlines()[0][:200]}).") from None
        self.config = getattr(like, "config", None)
        self.dtype = next((p.dtype for p in like.parameters()), torch.float32)
        self.device = torch.device("cpu")
        self.signature = inspect.signature(getattr(like, method))
        self.types = {node.name: _TYPES.get(node.type) for node in self.session.get_inputs()}
        takes = inspect.signature(type(like).forward if method == "forward" else getattr(type(like), method))
        setattr(self, method, _with_signature(self._run, takes))

    def cache_context(self, name: str):
        """Diffusers' pipelines tell a network which branch they call it for; a graph keeps nothing between calls."""
        return contextlib.nullcontext()

    def _run(self, *args, **kwargs):
        given = self.signature.bind(*args, **kwargs).arguments
        given |= given.pop("kwargs", {})
        missing = [name for name in self.types if given.get(name) is None]
        if missing:
            raise Trouble(f"{self.path.name}: the graph has the input {missing[0]!r}, which the call leaves out. "
                          f"Inputs of the graph: {', '.join(self.types)}.")  # fmt: skip
        feeds = {name: _as_array(given[name], kind) for name, kind in self.types.items()}
        like = next((v for v in given.values() if isinstance(v, torch.Tensor) and v.is_floating_point()), torch.empty(0))
        outputs = tuple(torch.from_numpy(np.array(o)).to(like.device) for o in self.session.run(None, feeds))
        if "return_dict" not in self.signature.parameters:  # a module of somebody's own: it returns what it makes
            return outputs[0] if len(outputs) == 1 else outputs
        return _Output(outputs) if given.get("return_dict", True) else outputs


class _Output(tuple):
    """What diffusers' outputs are read by: the first as `.sample`, all by their number."""

    @property
    def sample(self) -> torch.Tensor:
        return self[0]


_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(int64)": np.int64,
          "tensor(int32)": np.int32, "tensor(bool)": np.bool_}  # fmt: skip


def _as_array(value, kind) -> np.ndarray:
    array = value.detach().cpu().float().numpy() if isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16 else \
        value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    return array if kind is None else array.astype(kind, copy=False)


def _with_signature(function, like: inspect.Signature):
    def run(*args, **kwargs):
        return function(*args, **kwargs)

    run.__signature__ = like.replace(parameters=list(like.parameters.values())[1:])
    return run
