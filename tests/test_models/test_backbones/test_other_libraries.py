"""The lines of docs/other_libraries.md, where these libraries are."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope

from mmba2m.models.attentions import BA2M, SE

PAGE = Path(__file__).parents[3] / 'docs/other_libraries.md'


def build(module, block, tmp_path):
    """Builds a block of the page over the installed base config."""
    text = PAGE.read_text('utf-8').split('```python\n')[block].split('```')[0]
    base, _, lines = text.partition('\n')
    name = base.split("'")[1].partition('PATH/configs/')[2]
    name = name or base.split('::')[1].rstrip("'")
    path = Path(module.__file__).parent / '.mim/configs' / name
    (tmp_path / 'config.py').write_text(f'_base_ = {str(path)!r}\n{lines}')
    init_default_scope(module.__name__)
    cfg = Config.fromfile(tmp_path / 'config.py')
    cfg.model.pop('pretrained', None)  # weights to download
    cfg.model.backbone.pop('init_cfg', None)
    return revert_sync_batchnorm(MODELS.build(cfg.model)).train()


def assert_between_stages(backbone):
    names = [n for n, m in backbone.named_modules() if isinstance(m, BA2M)]
    assert names == [f'layer{i}.ba2m' for i in (1, 2, 3, 4)]


def test_a_segmentor(tmp_path):
    mmseg = pytest.importorskip('mmseg')
    model = build(mmseg, 1, tmp_path)
    assert_between_stages(model.backbone)
    assert model.backbone.contract_dilation
    maps = model.extract_feat(torch.randn(2, 3, 64, 64))
    assert [x.shape[-1] for x in maps] == [16, 8, 8, 8]
    model.decode_head(maps).sum().backward()
    assert model.backbone.layer4.ba2m.channel[1].weight.grad.any()

    backbone = build(mmseg, 2, tmp_path).backbone
    modules = [m for m in backbone.modules() if isinstance(m, SE)]
    assert len(modules) == 16
    (name,) = backbone.layer1[0].after_conv3_plugin_names
    assert getattr(backbone.layer1[0], name) is modules[0]


def test_a_pose_model(tmp_path):
    mmpose = pytest.importorskip('mmpose')
    model = build(mmpose, 3, tmp_path)
    assert_between_stages(model.backbone)
    (last,) = model.extract_feat(torch.randn(2, 3, 64, 64))
    assert last.shape == (2, 2048, 2, 2)
    assert model.head((last,)).shape == (2, 17, 16, 16)
