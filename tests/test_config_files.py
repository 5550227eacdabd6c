"""Our configs by name: paths, MMPretrain, the inferencers."""

from pathlib import Path

import pytest

from mmba2m import HOSTS, config_files
from mmba2m.config_files import find_config, list_configs, read_config

ROOT = Path(__file__).parents[1]
NAME = 'ba2m-resnet18_shapes'
needs_mmpretrain = pytest.mark.skipif(
    'mmpretrain' not in HOSTS, reason='no mmpretrain'
)


@pytest.mark.parametrize(
    'name', [NAME, f'demo/{NAME}.py', f'mmba2m::demo/{NAME}']
)
def test_the_path_of_a_name(name):
    assert find_config(name) == ROOT / f'configs/demo/{NAME}.py'
    assert not any('_base_' in name for name in list_configs())


def test_a_name_that_is_wrong():
    with pytest.raises(ValueError, match=f'resnet81.*did you mean {NAME}'):
        find_config('ba2m-resnet81_shapes')


def test_in_a_wheel_and_without_configs(tmp_path, monkeypatch):
    package = tmp_path / 'mmba2m'
    monkeypatch.setattr(config_files, '__file__', package / 'a.py')
    with pytest.raises(FileNotFoundError, match='no configs beside'):
        find_config(NAME)
    (package / '.mim/configs/demo').mkdir(parents=True)
    (package / '.mim/model-index.yml').touch()
    path = package / '.mim/configs/demo/mine.py'
    path.touch()
    assert find_config('mine') == path


@needs_mmpretrain
def test_mmpretrain_lists_our_classifiers(load_config):
    from mmpretrain import get_model, list_models
    from mmpretrain.apis import ModelHub

    names = {path.stem: name for name, path in list_configs().items()}
    ours = [name for name in list_models() if name in names]
    assert {'ba2m-resnet50_8xb32-90e_in1k', 'cbam-resnet50_8xb32-90e_in1k'} < {
        *ours
    }
    studied = ('demo/', 'studies/')
    for stem, name in names.items():
        if not name.startswith(studied):
            kind = load_config(name).model.type
            assert (kind == 'ImageClassifier') == (stem in ours), name
    assert Path(ModelHub.get(ours[0]).config.filename) == find_config(ours[0])
    network = get_model(
        'ba2m-resnet50_8xb32-90e_in1k',
        backbone=dict(depth=18, ba2m_cfg=dict(reduction=16)),
        head=dict(in_channels=512),
    )
    assert type(network.backbone).__name__ == 'BA2MResNet'


def test_the_detectors_inferencer_takes_the_path(detector_run):
    from mmdet.apis import DetInferencer

    path = str(find_config('faster-rcnn_ba2m-r18_fpn_shapes'))
    weights = str(detector_run / 'epoch_3.pth')
    model = DetInferencer(path, weights, device='cpu').model
    assert type(model.backbone).__name__ == 'BA2MResNet'
    assert model.dataset_meta['classes'][0] == 'circle'


def test_a_config_without_a_scope_gets_that_of_its_model(tmp_path):
    path = tmp_path / 'own.py'
    for model, scope in (('mmdet.RetinaNet', 'mmdet'), ('RetinaNet', None)):
        path.write_text(f'model = dict(type={model!r})')
        assert read_config(path).get('default_scope') == scope
