from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

BASE = Path(__file__).parent.parent / 'configs/_base_/datasets'


@pytest.mark.parametrize('phase', ['train', 'val', 'test'])
@pytest.mark.parametrize('name', ['cifar100_bs256', 'imagenet_bs32'])
def test_classification_batches_are_one_tensor(name, phase):
    """A tensor per image costs more to hand over than to load."""
    structures = pytest.importorskip('mmpretrain.structures')
    loader = Config.fromfile(BASE / f'{name}.py')[f'{phase}_dataloader']
    assert loader.num_workers > 0
    assert loader.persistent_workers
    assert loader.pin_memory
    images = torch.arange(36, dtype=torch.uint8).reshape(3, 3, 2, 2)
    samples = [
        dict(inputs=image, data_samples=structures.DataSample())
        for image in images
    ]
    # without processes and, on a machine that may have no GPU, unpinned
    loader.update(
        num_workers=0,
        persistent_workers=False,
        pin_memory=False,
        dataset=samples,
        sampler=torch.utils.data.SequentialSampler(samples),
    )
    (batch,) = Runner.build_dataloader(loader)
    assert torch.equal(batch['inputs'], images)
