import pytest
import torch
import torchvision
from mmengine.config import Config

from mmba2m import HOSTS
from mmba2m.checkpoints.files import load_checkpoint
from mmba2m.checkpoints.start import to_ba2m_start

CONFIG = """
default_scope = '{}'
custom_imports = dict(imports=['mmba2m'], allow_failed_imports=False)
model = dict(
    backbone=dict(type='BA2MResNet', depth=18, ba2m_cfg=dict(reduction=4))
)
"""


@pytest.mark.parametrize('host', HOSTS)
def test_it_writes_the_start_or_nothing(host, convert, tmp_path):
    config, resnet, out = (
        tmp_path / name for name in ('config.py', 'r18.pth', 'start.pth')
    )
    config.write_text(CONFIG.format(host))
    state = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(state, resnet)
    rest = ('--config', config)
    report = convert('resnet_to_ba2m', resnet, out, *rest)
    # torchvision says 11,689,512 parameters, of them 513,000 in fc, and of
    # its 20 batch norms the statistics are 9,600 and 20 more
    matched = '120 of 120 weights for BA2MResNet, 11,186,132 numbers'
    assert f'matched: {matched}\n' in report
    assert report.splitlines()[-1] == f'wrote {out}'
    start, _ = to_ba2m_start(state, Config.fromfile(config))
    written = load_checkpoint(out)['state_dict']
    assert written.keys() == start['state_dict'].keys()
    for key, value in written.items():
        assert torch.equal(value, state[key.removeprefix('backbone.')])

    before = resnet.read_bytes()
    message = convert('resnet_to_ba2m', resnet, resnet, *rest, fails=True)
    assert f'{resnet} exists already' in message
    assert resnet.read_bytes() == before
    config.write_text(config.read_text().replace('depth=18', 'depth=50'))
    out.unlink()
    message = convert('resnet_to_ba2m', resnet, out, *rest, fails=True)
    assert f'resnet_to_ba2m: {resnet} for {config}: ' in message
    assert 'layer1.0.conv1.weight is (64, 64, 3, 3)' in message
    assert not out.exists()
    message = convert('strip_ba2m', 'in.pth', 'out.py', fails=True)
    assert 'out.py must end in .pth' in message
