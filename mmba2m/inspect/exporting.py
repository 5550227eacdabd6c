"""Networks as ONNX or TorchScript, checked against the network itself.

Of a classifier the scores are exported, of a detector the feature maps of
backbone and neck. Images are normalised before.
"""

import inspect
import warnings
from contextlib import redirect_stdout
from io import BytesIO, StringIO

import numpy as np
import torch
from torch import nn

from mmba2m.models.attentions.ba2m import BA2M
from mmba2m.models.attentions.ba2m.branches import GlobalSpatialAttention

#: the newest that torch 2.1 writes; attention needs 14 at least
OPSET = 17
INPUT = 'input'
#: by how much features may differ, of their largest value if that is over 1
TOLERANCE = 1e-4


class Scores(nn.Module):
    """A classifier, with softmax: (N, 3, H, W) → ((N, classes),)."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        """Computes the scores."""
        return (self.model(x, mode='tensor').softmax(1),)

    def predict(self, x):
        """The scores as MMPretrain predicts them."""
        samples = self.model(x, mode='predict')
        return (torch.stack([sample.pred_score for sample in samples]),)


class Features(nn.Module):
    """A detector's backbone and neck: (N, 3, H, W) → a map for each level."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        """Computes the features, the finest first."""
        return tuple(self.model.extract_feat(x))

    predict = forward


def name_outputs(outputs):
    """Names what :class:`Scores` or :class:`Features` gives."""
    if outputs[0].dim() == 2:
        return ['scores']
    return [f'feature_{i}' for i in range(len(outputs))]


def remove_idle_ba2m(network):
    """Takes BA²M out where it does nothing, in place.

    That is where it was annealed, and where ``inference='identity'``.

    Args:
        network (nn.Module): In ``eval()``.

    Returns:
        tuple[int, int]: How many modules stay, and how many are gone.

    Raises:
        ValueError: If a module mixes samples in inference.
    """
    stay = gone = 0
    for name, module in list(network.named_modules()):
        if not isinstance(module, BA2M):
            continue
        if module.inference == 'identity' or module.strength.item() == 0:
            parent, _, leaf = name.rpartition('.')
            setattr(network.get_submodule(parent), leaf, nn.Identity())
            gone += 1
            continue
        if module.inference == 'batch':
            raise ValueError(
                f"{name} has inference='batch', where outputs depend on the "
                "whole batch: set inference='population' in the config"
            )
        stay += 1
    return stay, gone


def to_onnx(network, x, dynamic=(), opset=OPSET):
    """Exports to ONNX, by the exporter that both stacks have.

    Args:
        network (Scores | Features): In ``eval()``.
        x (Tensor): An input, shape (N, 3, H, W).
        dynamic (Sequence[str]): 'batch' and 'size', where other numbers of
            images and other heights and widths shall do. Defaults to none.
        opset (int): Version of the operators. Defaults to 17.

    Returns:
        bytes: The model.

    Raises:
        ValueError: If the network has what PyTorch cannot export.
    """
    with torch.no_grad():
        outputs = network(x)
    names = name_outputs(outputs)
    axes = {}
    for name, tensor in zip((INPUT, *names), (x, *outputs), strict=True):
        axes[name] = {}
        if 'batch' in dynamic:
            axes[name][0] = 'batch'
        if 'size' in dynamic and tensor.dim() == 4:
            prefix = '' if name == INPUT else f'{name}_'
            axes[name] |= {2: f'{prefix}height', 3: f'{prefix}width'}
    kwargs = {}
    if 'dynamo' in inspect.signature(torch.onnx.export).parameters:
        kwargs['dynamo'] = False  # the other one needs onnxscript
    stream = BytesIO()
    try:
        # PyTorch prints the whole graph where it fails
        with _quietly(), redirect_stdout(StringIO()):
            torch.onnx.export(
                network,
                (x,),
                stream,
                input_names=[INPUT],
                output_names=names,
                dynamic_axes=axes,
                opset_version=opset,
                **kwargs,
            )
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        reason = str(error).split(' [Caused by')[0].splitlines()[0]
        raise ValueError(f'PyTorch cannot export it: {reason}') from error
    return stream.getvalue()


def run_onnx(content):
    """Loads an ONNX model, to run on the CPU.

    Args:
        content (bytes): The model.

    Returns:
        Callable: From an input tensor to a list of arrays.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        content, options, providers=['CPUExecutionProvider']
    )
    return lambda x: session.run(None, {INPUT: x.numpy()})


def to_torchscript(network, x, dynamic=()):
    """Traces a network.

    Args:
        network (Scores | Features): In ``eval()``.
        x (Tensor): An input, shape (N, 3, H, W).
        dynamic (Sequence[str]): As in :func:`to_onnx`.

    Returns:
        bytes: The model.

    Raises:
        ValueError: If it could not take images of another size, which are
            asked for.
    """
    if 'size' in dynamic and any(
        isinstance(module, GlobalSpatialAttention) and module.max_kv_size
        for module in network.modules()
    ):
        raise ValueError(
            'a traced BA2M keeps the pooling of the size it was traced with, '
            'so TorchScript has no --dynamic size: take ONNX, or '
            'max_kv_size=None in ba2m_cfg'
        )
    stream = BytesIO()
    with torch.no_grad(), _quietly():
        torch.jit.save(torch.jit.trace(network, x, check_trace=False), stream)
    return stream.getvalue()


def run_torchscript(content):
    """Loads a TorchScript model, to run on the CPU; as :func:`run_onnx`."""
    model = torch.jit.load(BytesIO(content), map_location='cpu')

    def run(x):
        with torch.no_grad():
            return [output.numpy() for output in model(x)]

    return run


FORMATS = {
    'onnx': (to_onnx, run_onnx),
    'torchscript': (to_torchscript, run_torchscript),
}


def compare(network, run, x):
    """Compares what was exported with the network.

    Args:
        network (Scores | Features): The network.
        run (Callable): Of :func:`run_onnx` or :func:`run_torchscript`.
        x (Tensor): An input, shape (N, 3, H, W).

    Returns:
        float: The largest difference of any output.

    Raises:
        ValueError: If it is larger than 1e-4, of the output's largest value
            if that is over 1, or does not run at all.
    """
    what = f'on an input of {tuple(x.shape)}'
    with torch.no_grad():
        expected = network.predict(x)
    try:
        outputs = run(x)
    except Exception as error:  # runtimes raise types of their own
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(
            f'what was exported fails {what}: {reason}'
        ) from error
    largest = 0.0
    for name, output, target in zip(
        name_outputs(expected), outputs, expected, strict=True
    ):
        target = target.numpy()
        if output.shape != target.shape:
            raise ValueError(
                f'what was exported differs {what}: {name} is '
                f'{output.shape}, not {target.shape}'
            )
        difference = float(np.abs(output - target).max())
        if not difference <= TOLERANCE * max(1, np.abs(target).max()):
            raise ValueError(
                f'what was exported differs {what}: {name} by {difference:.2g}'
            )
        largest = max(largest, difference)
    return largest


class _quietly(warnings.catch_warnings):
    """What tracing warns of is checked afterwards, by comparing."""

    def __enter__(self):
        super().__enter__()
        warnings.simplefilter('ignore')
