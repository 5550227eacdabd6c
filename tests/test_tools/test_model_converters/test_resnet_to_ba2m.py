import pytest
import torch
import torchvision
from mmengine.config import Config
from mmengine.registry import MODELS

from mmba2m import HOSTS

CONFIG = """
default_scope = '{host}'
custom_imports = dict(imports=['mmba2m'], allow_failed_imports=False)
model = dict(
    backbone=dict(type='BA2MResNet', depth=18, ba2m_cfg=dict(reduction=4))
)
"""


@pytest.fixture(params=HOSTS)
def config(request, tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(CONFIG.format(host=request.param))
    return path


@pytest.fixture
def resnet(tmp_path):
    path = tmp_path / 'resnet18.pth'
    network = torchvision.models.resnet18(weights=None)
    torch.save(network.state_dict(), path)
    return path


def test_the_file_initialises_the_backbone_of_the_config(
    config, resnet, convert, tmp_path
):
    out = tmp_path / 'start.pth'
    report = convert('resnet_to_ba2m', resnet, out, '--config', config)
    assert (
        # torchvision says 11,689,512 parameters, of them 513,000 in fc, and
        # of its 20 batch norms the statistics are 9,600 and 20 more
        'matched: 120 of 120 weights for BA2MResNet, 11,186,132 numbers\n'
    ) in report
    assert report.splitlines()[-1] == f'wrote {out}'

    cfg = Config.fromfile(config)
    cfg.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint=str(out), prefix='backbone.'
    )
    with MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
        backbone = registry.build(cfg.model.backbone)
    backbone.init_weights()
    state = backbone.state_dict()
    for key, value in torch.load(resnet, weights_only=True).items():
        if not key.startswith('fc.'):
            assert torch.equal(state[key], value)


def test_another_network_is_refused_and_nothing_written(
    config, resnet, convert, tmp_path
):
    config.write_text(config.read_text().replace('depth=18', 'depth=50'))
    out = tmp_path / 'start.pth'
    message = convert(
        *('resnet_to_ba2m', resnet, out, '--config', config), fails=True
    )
    assert f'resnet_to_ba2m: {resnet} for {config}: ' in message
    assert 'layer1.0.conv1.weight is (64, 64, 3, 3)' in message
    assert not out.exists()
    before = resnet.read_bytes()
    message = convert(
        *('resnet_to_ba2m', resnet, resnet, '--config', config), fails=True
    )
    assert f'{resnet} exists already' in message
    assert resnet.read_bytes() == before


def test_a_name_that_is_no_checkpoint_is_refused(convert):
    message = convert('strip_ba2m', 'in.pth', 'out.py', fails=True)
    assert 'out.py must end in .pth' in message
