import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmba2m.inspect import build_dataset, load_network

pytest.importorskip('mmpretrain')


@pytest.fixture
def cfg():
    return Config(
        dict(
            default_scope='mmpretrain',
            data_preprocessor=dict(mean=[1, 2, 3], std=[4, 5, 6]),
            model=dict(
                type='ImageClassifier',
                backbone=dict(type='mmpretrain.LeNet5', num_classes=2),
                head=dict(type='ClsHead'),
            ),
        )
    )


def test_weights_of_a_wrapped_network_and_its_preprocessor(cfg, tmp_path):
    init_default_scope('mmpretrain')
    weights = MODELS.build(cfg.model).state_dict()
    state = {
        f'module.{key}': torch.randn_like(value)
        for key, value in weights.items()
    }
    torch.save(dict(state_dict=state), tmp_path / 'checkpoint.pth')
    model = load_network(cfg, str(tmp_path / 'checkpoint.pth'))
    assert not model.training
    for key, value in model.state_dict().items():
        assert torch.equal(value.cpu(), state[f'module.{key}'])
    assert model.data_preprocessor.mean.flatten().tolist() == [1, 2, 3]
    assert 'data_preprocessor' not in cfg.model


def test_what_is_not_there_is_named(cfg, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none\.pth not found'):
        load_network(cfg, str(tmp_path / 'none.pth'))
    with pytest.raises(ValueError, match='has no val_dataloader'):
        build_dataset(cfg, 'val')
