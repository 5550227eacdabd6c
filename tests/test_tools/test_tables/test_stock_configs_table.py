import pytest
import torch
from mmengine.config import Config

pytest.importorskip('mmdet')
from mmdet.models import ResNet


@pytest.fixture
def tool(load_tools):
    return load_tools('tables')['stock_configs_table']


def test_from_scratch_norms_are_trained_and_with_weights_frozen(
    tool, tmp_path
):
    cfg = tool.add_lines(tool.CONFIGS[0], tmp_path)
    scratch, thin = cfg.model.backbone, Config(cfg.to_dict()).model
    assert scratch.base == 'ResNet' and scratch.frozen_stages == 1
    tool.take_thin(thin, tmp_path / 'thin.pth')
    tool.prepare_network(thin, frozen=True)
    assert thin.backbone.init_cfg.checkpoint == str(tmp_path / 'thin.pth')
    assert thin.backbone.norm_eval and thin.backbone.frozen_stages == 1
    assert thin.neck.in_channels[0] == 4 * thin.backbone.base_channels
    tool.prepare_network(cfg.model, frozen=False)
    assert not scratch.norm_eval and scratch.frozen_stages == -1
    assert 'init_cfg' not in scratch
    assert cfg.model.train_cfg.rcnn.sampler.num == 64


@pytest.mark.slow
def test_rows_are_written_into_the_page(tool, shapes, tmp_path):
    thin, page = tmp_path / 'thin.pth', tmp_path / 'page.md'
    weights = ResNet(**tool.THIN).state_dict()
    torch.save(dict(state_dict=weights), thin)
    page.write_text(f'before\n\n{tool.BEGIN}\n\nold\n\n<!-- until here -->\n')
    args = [str(shapes / 'coco'), '--iterations', '2', '--size', '64']
    args += ['--configs', '--thin', str(thin), '--page', str(page)]
    tool.main(args)
    lines = page.read_text().splitlines()
    rows = [line for line in lines if '`mmdet::' in line]
    for row, detector in zip(rows, ('FasterRCNN', 'RetinaNet'), strict=True):
        cells = [cell.strip() for cell in row.split('|')[2:-1]]
        assert cells[:2] == [f'{detector}, norms frozen', "`base='ResNet'`"]
        losses = [float(value) for value in cells[2].split(' → ')]
        assert min(losses) > 0
        spreads, levels = ([*map(float, c.split())] for c in cells[3:])
        assert len(spreads) == len(levels) == 4
        assert all(0 < level < 1 for level in levels)
    assert 'old' not in lines and lines[0] == 'before'
    assert any('shapes' in line or 'coco, 20' in line for line in lines)
