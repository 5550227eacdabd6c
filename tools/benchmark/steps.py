"""What is measured of a network: a training step, inference, memory."""

from contextlib import nullcontext

import torch

from mmba2m.models.attentions.ba2m import BA2M

from .memory import count_bytes, measure_peak

PRECISIONS = ('fp32', 'bf16', 'autocast')


class Subject:
    """A network and how it is run.

    Args:
        network (nn.Module): A backbone.
        device (torch.device): Where it computes.
        precision (str): 'fp32'; 'bf16' for weights and maps in bfloat16; or
            'autocast' to bfloat16. Defaults to 'fp32'.
        channels_last (bool): Memory layout of weights and images. Defaults
            to False.
        compiled (str | None): What ``torch.compile`` compiles: the
            'network', its attention modules alone ('module'), or nothing.
            Defaults to None.
        optimizer (bool): Whether a training step ends with one of SGD with
            momentum. Defaults to False.
    """

    def __init__(
        self,
        network,
        device,
        precision='fp32',
        channels_last=False,
        compiled=None,
        optimizer=False,
    ):
        self.device = device
        self.dtype = torch.bfloat16 if precision == 'bf16' else torch.float32
        self.autocast = precision == 'autocast'
        self.layout = (
            torch.channels_last if channels_last else torch.contiguous_format
        )
        self.network = network.to(
            device, self.dtype, memory_format=self.layout
        )
        self.optimizer = None
        if optimizer:
            trained = [p for p in network.parameters() if p.requires_grad]
            self.optimizer = torch.optim.SGD(trained, lr=1e-6, momentum=0.9)
        self.run = self.network
        if compiled == 'network':
            self.run = torch.compile(self.network)
        elif compiled == 'module':
            for module in self.network.modules():
                if is_attention(module):
                    module.forward = torch.compile(module.forward)

    def images(self, shape):
        """Draws images of a shape (N, C, H, W), equal for all networks."""
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(shape, generator=generator)
        return images.to(self.device, self.dtype, memory_format=self.layout)

    def _forward(self, images):
        context = nullcontext()
        if self.autocast:
            context = torch.autocast(self.device.type, torch.bfloat16)
        with context:
            outs = self.run(images)
        return [outs] if isinstance(outs, torch.Tensor) else outs

    def train_step(self, images):
        """Prepares a training step.

        The loss is the sum of the means of the maps that the backbone puts
        out, so each gets a dense gradient, as from a head or neck.

        Args:
            images (Tensor): From :meth:`images`.

        Returns:
            Callable: Forward and backward pass, the optimizer if there is
            one, and the gradients dropped.
        """

        def step():
            outs = self._forward(images)
            sum(out.mean(dtype=torch.float32) for out in outs).backward()
            if self.optimizer is not None:
                self.optimizer.step()
            self.network.zero_grad(set_to_none=True)
            images.grad = None

        self.network.train()
        return step

    def inference_step(self, images):
        """Prepares a forward pass without gradients, in ``eval()``.

        Args:
            images (Tensor): From :meth:`images`.

        Returns:
            Callable: The pass.
        """

        @torch.no_grad()
        def step():
            self._forward(images)

        # running statistics as after training, BA²M's normaliser too
        self.network.train()
        with torch.no_grad():
            self._forward(self.images((2, *images.shape[1:])))
        self.network.eval()
        return step

    def peak_memory(self, step, images):
        """Measures the most memory that is held at once, weights included.

        Args:
            step (Callable): One that has run before.
            images (Tensor): What it works on.

        Returns:
            int: Bytes of weights, buffers, the optimizer's state and images,
            and the peak of the step, see :func:`measure_peak`.
        """
        held = [*self.network.parameters(), *self.network.buffers(), images]
        if self.optimizer is not None:
            for state in self.optimizer.state.values():
                held += [v for v in state.values() if torch.is_tensor(v)]
        return count_bytes(held) + measure_peak(step, self.device)


def is_attention(module):
    """Says whether a module is one of this package's attention modules."""
    home = 'mmba2m.models.attentions.'
    return isinstance(module, BA2M) or (
        type(module).__module__.startswith(home)
        and hasattr(module, 'positions')
    )
