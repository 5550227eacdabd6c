import pytest
import torch
from torch import nn

from mmba2m.utils.checkpoint_checks import check_checkpoint


class Network(nn.Module):
    def __init__(self, width=4, num_classes=3, ba2m=True):
        super().__init__()
        self.backbone = nn.ModuleDict(dict(conv=nn.Conv2d(3, width, 1)))
        if ba2m:
            self.backbone['ba2m'] = nn.Conv2d(width, 1, 1)
        self.head = nn.Linear(width, num_classes)


def save(network, path):
    torch.save(dict(state_dict=network.state_dict(), meta={}), path)
    return str(path)


def test_same_network_fits(tmp_path):
    path = save(Network(), tmp_path / 'a.pth')
    check_checkpoint(Network(), path, strict=True)


def test_bare_and_wrapped_state_dicts_fit(tmp_path):
    state = {f'module.{k}': v for k, v in Network().state_dict().items()}
    torch.save(state, tmp_path / 'a.pth')
    check_checkpoint(Network(), str(tmp_path / 'a.pth'), strict=True)


def test_other_width_is_named_in_both_modes(tmp_path):
    path = save(Network(width=8), tmp_path / 'wide.pth')
    for strict in (True, False):
        with pytest.raises(
            ValueError,
            match=r'wide\.pth.*backbone\.conv\.weight is \(8, 3, 1, 1\), not '
            r'\(4, 3, 1, 1\)',
        ):
            check_checkpoint(Network(), path, strict)


@pytest.mark.parametrize('other', [dict(num_classes=5), dict(ba2m=False)])
def test_new_head_and_new_ba2m_only_fit_as_a_start(tmp_path, other):
    path = save(Network(**other), tmp_path / 'a.pth')
    check_checkpoint(Network(), path, strict=False)
    with pytest.raises(ValueError, match=r'head\.weight|backbone\.ba2m'):
        check_checkpoint(Network(), path, strict=True)


def test_a_backbone_without_prefix_is_refused(tmp_path):
    path = save(Network().backbone, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r'missing: backbone\.conv\.weight'):
        check_checkpoint(Network(), path, strict=False)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none\.pth'):
        check_checkpoint(Network(), str(tmp_path / 'none.pth'), strict=True)
