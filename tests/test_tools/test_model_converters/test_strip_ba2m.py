import numpy as np
import pytest
import torch
from predict import predict, predict_alone

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')


@pytest.mark.slow
def test_a_user_of_the_host_alone_predicts_the_same_bit_for_bit(
    trained, checkpoint, shapes, convert, tmp_path
):
    host, _ = trained
    out = tmp_path / 'stock.pth'
    report = convert('strip_ba2m', checkpoint, out)
    assert 'no runner_type=mmba2m.Runner\n' in report
    assert 'model.backbone: BA2MResNet → ResNet\n' in report
    assert 'custom_imports: no mmba2m\n' in report
    assert 'not resumed: message_hub, optimizer, param_schedulers' in report
    config = out.with_suffix('.py')
    assert 'ba2m' not in config.read_text().lower()
    stripped = torch.load(out, weights_only=True)
    assert set(stripped) == {'meta', 'state_dict', 'ema_state_dict'}
    assert stripped['meta']['cfg'] == config.read_text()
    assert 'circle' in stripped['meta']['dataset_meta']['classes']

    ours = tmp_path / 'ours.py'
    ours.write_text(torch.load(checkpoint, weights_only=False)['meta']['cfg'])
    images = sorted((shapes / 'coco/train2017').glob('*.jpg'))[:2]
    images = list(map(str, images))
    backbone, expected = predict(host, str(ours), str(checkpoint), images)
    assert backbone == 'BA2MResNet'
    backbone, found = predict_alone(host, str(config), str(out), images)
    assert backbone == 'ResNet'
    assert len(found) == len(expected) == 2
    for one, other in zip(found, expected, strict=True):
        for values, others in zip(one, other, strict=True):
            assert values.size > 0
            assert np.array_equal(values, others)
    assert not np.array_equal(found[0][0], found[1][0])


def test_what_was_not_annealed_is_refused_and_nothing_written(
    checkpoint, convert, tmp_path
):
    content = torch.load(checkpoint, weights_only=False)
    content['state_dict']['backbone.layer3.ba2m.strength'].fill_(0.5)
    source = tmp_path / 'early.pth'
    torch.save(content, source)
    out = tmp_path / 'stock.pth'
    message = convert('strip_ba2m', source, out, fails=True)
    assert f'strip_ba2m: {source}: 1 of 4 BA2M modules' in message
    assert 'backbone.layer3.ba2m 0.5' in message
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ['annealed.pth', 'early.pth']
    assert f'wrote {out}' in convert('strip_ba2m', source, out, '--force')


def test_no_file_is_overwritten(checkpoint, convert, tmp_path):
    before = checkpoint.read_bytes()
    message = convert('strip_ba2m', checkpoint, checkpoint, fails=True)
    assert message.endswith(
        f'strip_ba2m: {checkpoint} exists already, choose another name'
    )
    assert checkpoint.read_bytes() == before
    config = tmp_path / 'stock.py'
    config.write_text('mine')
    out = tmp_path / 'stock.pth'
    message = convert('strip_ba2m', checkpoint, out, fails=True)
    assert f'{config} exists already' in message
    assert config.read_text() == 'mine'
    assert not out.exists()


def test_a_state_dict_alone_needs_its_config(checkpoint, convert, tmp_path):
    content = torch.load(checkpoint, weights_only=False)
    source, out = tmp_path / 'bare.pth', tmp_path / 'stock.pth'
    torch.save(content['state_dict'], source)
    message = convert('strip_ba2m', source, out, fails=True)
    assert f'strip_ba2m: {source}: no config in it' in message
    assert '--config' in message
    config = tmp_path / 'ours.py'
    config.write_text(content['meta']['cfg'])
    convert('strip_ba2m', source, out, '--config', config)
    stripped = torch.load(out, weights_only=True)['state_dict']
    assert stripped and stripped.keys() < content['state_dict'].keys()

    config.write_text(content['meta']['cfg'].replace('depth=18', 'depth=34'))
    message = convert(
        *('strip_ba2m', source, tmp_path / 'b.pth', '--config', config),
        fails=True,
    )
    assert 'missing: backbone.layer1.2.conv1.weight' in message
    assert not (tmp_path / 'b.pth').exists()
