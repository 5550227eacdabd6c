import pytest
import torch
from predict import predict, predict_alone

from mmba2m.checkpoints.files import load_checkpoint

pytestmark = pytest.mark.filterwarnings('ignore:BA2M')


@pytest.mark.slow
def test_a_user_of_the_host_alone_predicts_the_same_bit_for_bit(
    host, checkpoint, shapes, convert, tmp_path
):
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
    ours.write_text(load_checkpoint(checkpoint)['meta']['cfg'])
    images = sorted(map(str, shapes.glob('coco/train2017/*.jpg')))[:2]
    backbone, expected = predict(host, str(ours), str(checkpoint), *images)
    assert backbone == 'BA2MResNet'
    backbone, found = predict_alone(host, str(config), str(out), *images)
    assert backbone == 'ResNet'
    assert found == expected and found[0] != found[1]
    assert len(found) == 2 and all(found[0])


def test_what_is_refused_writes_nothing_and_overwrites_nothing(
    checkpoint, convert, tmp_path
):
    content = load_checkpoint(checkpoint)
    state = content['state_dict']
    state['backbone.layer3.ba2m.strength'].fill_(0.5)
    modules = sum(key.endswith('ba2m.strength') for key in state)
    source, out = tmp_path / 'early.pth', tmp_path / 'stock.pth'
    torch.save(content, source)
    before = source.read_bytes()
    message = convert('strip_ba2m', source, source, fails=True)
    assert message.endswith(
        f'strip_ba2m: {source} exists already, choose another name'
    )
    message = convert('strip_ba2m', source, out, fails=True)
    assert f'strip_ba2m: {source}: 1 of {modules} BA2M modules' in message
    assert 'backbone.layer3.ba2m 0.5' in message
    config = tmp_path / 'stock.py'
    config.write_text('mine')
    message = convert('strip_ba2m', source, out, '--force', fails=True)
    assert f'{config} exists already' in message
    assert config.read_text() == 'mine'
    assert source.read_bytes() == before
    assert {*tmp_path.iterdir()} == {checkpoint, source, config}
    config.unlink()
    assert f'wrote {out}' in convert('strip_ba2m', source, out, '--force')


def test_a_state_dict_alone_needs_its_config(checkpoint, convert, tmp_path):
    content = load_checkpoint(checkpoint)
    source, out = tmp_path / 'bare.pth', tmp_path / 'stock.pth'
    torch.save(content['state_dict'], source)
    message = convert('strip_ba2m', source, out, fails=True)
    assert f'strip_ba2m: {source}: no config in it' in message
    assert '--config' in message
    config = tmp_path / 'ours.py'
    # as that of a training that was resumed
    config.write_text(content['meta']['cfg'] + '\nresume = True\n')
    convert('strip_ba2m', source, out, '--config', config)
    assert '\nresume = False\n' in out.with_suffix('.py').read_text()
    stripped = torch.load(out, weights_only=True)['state_dict']
    assert stripped and stripped.keys() < content['state_dict'].keys()
