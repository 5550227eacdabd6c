import pickle

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmba2m.checkpoints.embedded_config import read_embedded_config
from mmba2m.inspect import build_dataset, load_network, read_trained

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
            test_dataloader=dict(
                dataset=dict(
                    type='CIFAR10', metainfo=dict(classes=('no', 'yes'))
                )
            ),
        )
    )


@pytest.fixture
def checkpoint(cfg):
    init_default_scope('mmpretrain')
    weights = MODELS.build(cfg.model).state_dict()
    state = {
        f'module.{key}': torch.randn_like(weights[key]) for key in weights
    }
    return dict(state_dict=state)


def test_weights_of_a_wrapped_network_and_its_preprocessor(cfg, checkpoint):
    model = load_network(cfg, checkpoint)
    assert not model.training
    for key, value in model.state_dict().items():
        assert torch.equal(
            value.cpu(), checkpoint['state_dict'][f'module.{key}']
        )
    assert model.data_preprocessor.mean.flatten().tolist() == [1, 2, 3]
    assert 'data_preprocessor' not in cfg.model


def test_classes_of_the_checkpoint_else_of_the_config(cfg, checkpoint):
    assert load_network(cfg, checkpoint).dataset_meta['classes'] == (
        'no',
        'yes',
    )
    del cfg.test_dataloader.dataset.metainfo
    classes = load_network(cfg, checkpoint).dataset_meta['classes']
    assert len(classes) == 10 and classes[0] == 'airplane'
    checkpoint['meta'] = dict(dataset_meta=dict(CLASSES=('a', 'b')))
    assert load_network(cfg, checkpoint).dataset_meta['classes'] == ('a', 'b')
    checkpoint['meta'] = dict(dataset_meta=dict(classes=classes[::-1]))
    with pytest.raises(ValueError, match='it has learnt the classes truck'):
        load_network(cfg, checkpoint)
    cfg.pop('test_dataloader')
    del checkpoint['meta']
    assert load_network(cfg, checkpoint).dataset_meta == {}


def test_the_config_is_read_from_a_file_or_the_checkpoint(
    cfg, checkpoint, tmp_path
):
    bare, full, config = (
        str(tmp_path / name) for name in ('bare.pth', 'full.pth', 'config.py')
    )
    torch.save(checkpoint, bare)
    torch.save(dict(checkpoint, meta=dict(cfg=cfg.pretty_text)), full)
    cfg.dump(config)
    for found, loaded in (read_trained(config, bare), read_trained(full)):
        assert found.to_dict() == cfg.to_dict()
        for key, value in checkpoint['state_dict'].items():
            assert torch.equal(loaded['state_dict'][key], value)
    with pytest.raises(ValueError, match=r'config\.py is a config: name its'):
        read_trained(config)
    with pytest.raises(ValueError, match=r'bare\.pth has no config in it'):
        read_trained(bare)
    torch.save(dict(checkpoint, meta=dict(cfg='x = print(1)')), full)
    with pytest.raises(ValueError, match=r'full\.pth: .* more than values'):
        read_trained(full)
    with pytest.raises(FileNotFoundError, match=r'none\.pth not found'):
        read_trained(config, str(tmp_path / 'none.pth'))


@pytest.mark.parametrize(
    'model',
    [
        "type='VQAGenerationHead', decoder=dict(type='LeNet5'), "
        "inference_method='rank', answer_list_path='FILE'",
        "type='mmcv.cnn.rfsearch.search.RFSearchHook', "
        "mode='fixed_single_branch', rfstructure_file='FILE'",
    ],
)
def test_no_file_that_a_config_names_runs_code(model, tmp_path):
    path = tmp_path / 'evil.pkl'
    path.write_bytes(pickle.dumps(dict(a=print)))
    text = f"default_scope = 'mmpretrain'\nmodel = dict({model})"
    text = text.replace('FILE', str(path))
    cfg = read_embedded_config(dict(meta=dict(cfg=text)))
    with pytest.raises(pickle.UnpicklingError, match=r'builtins\.print'):
        load_network(cfg, {}, 'cpu')
    assert pickle.loads(path.read_bytes()) == dict(a=print)


def test_what_does_not_fit_is_named(cfg, checkpoint):
    with pytest.raises(ValueError, match='has no val_dataloader'):
        build_dataset(cfg, 'val')
    for device in ('gpu', 'cuda:99'):
        with pytest.raises(ValueError, match=f'no device {device!r} here'):
            load_network(cfg, checkpoint, device)
    weights = checkpoint['state_dict']
    bias = weights['module.backbone.features.0.bias']
    bias.fill_(float('inf'))
    with pytest.raises(ValueError, match=r'^my\.pth has 1 weights that are N'):
        load_network(cfg, checkpoint, path='my.pth')
    bias.zero_()
    cfg.model.backbone.num_classes = 3
    with pytest.raises(ValueError, match=r'^my\.pth is a checkpoint of anoth'):
        load_network(cfg, checkpoint, path='my.pth')
    cfg.default_scope = 'mmseg'
    with pytest.raises(ValueError, match="'mmseg'"):
        load_network(cfg, checkpoint)
