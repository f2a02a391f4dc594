"""Networks as lists of operations that the JavaScript of a play page runs.

`trace` follows a network by torch.export and writes what it called, in ATen's names:

    {"inputs": ["z", "c"], "operations": [["conv2d", {"v": 0}, {"w": 3}, None, [2, 2]], ...], "output": 17}

{"v": i} is value i: first the inputs, then the result of each operation. {"w": i} is weight i.
"""

import operator
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from gancli.runtime.text import one_line

# What static/tensors.js and static/layers.js compute.
OPERATIONS = {
    "getitem", "sym_size.int", "glu", "adaptive_avg_pool2d", "abs", "log", "sin", "cos", "square", "relu",
    "leaky_relu", "tanh", "sigmoid", "silu", "softplus", "exp", "sqrt", "rsqrt", "neg", "pow", "clamp",
    "clamp_min", "prelu", "add", "sub", "rsub", "mul", "div", "floordiv", "alias", "dropout", "cat", "chunk",
    "slice", "narrow", "select", "flip", "unsqueeze", "squeeze", "flatten", "unflatten", "view", "reshape",
    "expand", "permute", "transpose", "mean.dim", "sum.dim_IntList", "softmax", "conv2d", "conv_transpose2d",
    "linear", "matmul", "scaled_dot_product_attention", "scale_shift", "instance_norm", "group_norm",
    "avg_pool2d", "max_pool2d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d",
    "_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa", "pad", "pixel_shuffle",
}  # fmt: skip
# Other names of the same: of overloads whose arguments differ the part behind the dot stays, as in mean.dim.
ALIASES = {**dict.fromkeys(("contiguous", "detach", "clone", "to"), "alias"), "bmm": "matmul"}
SYMBOLIC = {getattr(operator, name): name for name in ("getitem", "add", "sub", "mul", "floordiv", "neg")}
Shapes = dict[int, Any]  # axis of an input to its torch.export.Dim


class Unsupported(ValueError):
    """A network calls what the page's JavaScript does not compute."""


class Weights:
    """The weights that graphs share, by their name in the network."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}

    def add(self, name: str, x: Tensor) -> dict[str, int]:
        self.tensors.setdefault(name, x.detach())
        return {"w": list(self.tensors).index(name)}


class Call(nn.Module):
    """A network with a function of its own as forward."""

    def __init__(self, network: nn.Module, forward: Callable[..., Tensor]):
        super().__init__()
        self.network, self.call = network, forward

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.call(*inputs)


def plain(network: Any) -> nn.Module:
    """Return a network whose weights are those that it computes with: parametrizations and branches are merged."""
    network = network.merge() if hasattr(network, "merge") else network
    for module in network.modules():
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):
                parametrize.remove_parametrizations(module, name)
    return network


@torch.no_grad()
def trace(
    network: nn.Module,
    forward: Callable[..., Tensor],
    inputs: dict[str, Tensor],
    weights: Weights,
    dynamic: dict[str, Shapes] | None = None,
) -> dict[str, Any]:
    """Return the graph of forward(*inputs), which runs `network`, and add the weights that it uses.

    Args:
        inputs: examples by name; their shapes are fixed but for `dynamic`.

    Raises:
        Unsupported: an operation is not one of OPERATIONS.
    """
    shapes = (tuple((dynamic or {}).get(name, {}) for name in inputs),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.export.export(Call(network, forward), tuple(inputs.values()), dynamic_shapes=shapes)
        except Exception as error:  # a network of somebody else can fail in any way
            raise Unsupported(f"what torch.export cannot follow ({one_line(error, 120)})") from error
    return Writer(program, weights).graph(list(inputs))


class Writer:
    """Writes the graph of an exported program."""

    def __init__(self, program: torch.export.ExportedProgram, weights: Weights):
        signature = program.graph_signature
        self.names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.names |= signature.inputs_to_lifted_tensor_constants
        self.tensors = {**program.state_dict, **program.constants}
        self.nodes, self.weights = list(program.graph.nodes), weights
        self.numbers: dict[fx.Node, int] = {}  # of values
        self.user_inputs = set(signature.user_inputs)

    def graph(self, inputs: Sequence[str]) -> dict[str, Any]:
        [[result]] = (node.args[0] for node in self.nodes if node.op == "output")
        needed, pending = set(), [result]
        while pending:
            node = pending.pop()
            if node not in needed:
                needed.add(node)
                pending += node.all_input_nodes
        operations = []
        for node in self.nodes:
            if node.op == "placeholder" and node.name in self.user_inputs:
                self.numbers[node] = len(self.numbers)
            elif node.op == "call_function" and node in needed:
                operations.append(self.operation(node))
                self.numbers[node] = len(self.numbers)
        return {"inputs": list(inputs), "operations": operations, "output": self.numbers[result]}

    def operation(self, node: fx.Node) -> list[Any]:
        """Return an operation's name and its arguments."""
        name, target = name_of(node.target), node.target
        if name == "batch_norm":
            return self.batch_norm(node)
        if name not in OPERATIONS:
            raise Unsupported(name)
        schema = getattr(target, "_schema", None)
        if schema and schema.is_mutable:
            changed = node.args[0]
            # Written as the operation that leaves its input alone: nothing else may read that input then.
            if not isinstance(changed, fx.Node) or len(changed.users) > 1:
                raise Unsupported(f"{name}_ in place")
        arguments = list(node.args)
        parameters = schema.arguments[len(arguments) :] if schema else []
        named = [i for i, parameter in enumerate(parameters) if parameter.name in node.kwargs]
        for parameter in parameters[: max(named, default=-1) + 1]:
            arguments.append(node.kwargs.get(parameter.name, parameter.default_value))
        return [name, *(self.argument(value) for value in arguments)]

    def batch_norm(self, node: fx.Node) -> list[Any]:
        """Return batch norm of a trained network as x * scale + shift, exactly computed."""
        x, *parts, training, _, epsilon = node.args[:8]
        tensors = [self.tensor(part).double() if isinstance(part, fx.Node) else None for part in parts]
        gain, bias, mean, variance = tensors
        if training or mean is None or variance is None:
            raise Unsupported("batch_norm of its batch")
        scale = (variance + float(epsilon)).rsqrt()  # type: ignore[arg-type]
        scale = scale if gain is None else scale * gain
        shift = -mean * scale if bias is None else bias - mean * scale
        name = self.names[parts[2].name]  # type: ignore[union-attr]
        added = (self.weights.add(f"{name}/{key}", v.float()) for key, v in (("scale", scale), ("shift", shift)))
        return ["scale_shift", self.argument(x), *added]

    def tensor(self, node: fx.Node) -> Tensor:
        return self.tensors[self.names[node.name]].detach()

    def argument(self, value: Any) -> Any:
        """Return an argument as JSON holds it."""
        if isinstance(value, fx.Node):
            if value.name in self.names:
                # As float32: the file says how each weight is stored.
                return self.weights.add(self.names[value.name], self.tensor(value).float())
            return {"v": self.numbers[value]}
        if isinstance(value, list | tuple):
            return [self.argument(item) for item in value]
        if isinstance(value, torch.dtype | torch.device | torch.layout | torch.memory_format):
            return None
        if isinstance(value, float) and value in (float("inf"), float("-inf")):
            return None
        return min(value, 2**53 - 1) if isinstance(value, int) and not isinstance(value, bool) else value


def name_of(target: Any) -> str:
    """Return the name of what a node calls, as static/*.js calls it."""
    if target in SYMBOLIC:
        return SYMBOLIC[target]
    if not isinstance(target, torch._ops.OpOverload):
        return str(getattr(target, "__name__", target))
    name = target._schema.name.removeprefix("aten::").removesuffix("_")
    full = f"{name}.{target._schema.overload_name}"
    return full if full in OPERATIONS else ALIASES.get(name, name)
