import warnings
from importlib import metadata

import pytest

from mmba2m.checkpoints import stack

GOOD = {
    'torch': '2.1.2+cu121',
    'mmengine': '0.10.7',
    'mmcv': '2.1.0',
    'mmdet': '3.3.0',
    'mmpretrain': '1.2.0',
}


@pytest.fixture
def install(monkeypatch):
    """Pretends that exactly these distributions are installed."""

    def pretend(ops=True, **versions):
        versions = {k.replace('_', '-'): v for k, v in versions.items()}

        def version(name):
            if name not in versions:
                raise metadata.PackageNotFoundError(name)
            return versions[name]

        monkeypatch.setattr(stack.metadata, 'version', version)
        monkeypatch.setattr(stack, 'find_spec', lambda _: ops or None)

    return pretend


def without(*names, **others):
    kept = {k: v for k, v in GOOD.items() if k not in names}
    return {**kept, **others}


@pytest.mark.parametrize(
    'versions',
    [
        GOOD,
        dict(
            torch='2.11.0+cu130',
            onedl_mmengine='0.10.12',
            onedl_mmcv='2.3.6',
            onedl_mmdetection='3.5.1',
            onedl_mmpretrain='1.3.6',
        ),
        {**GOOD, 'torch': '2.9.0.dev20250801', 'mmcv': '2.2.0rc1'},
    ],
    ids=['openmmlab', 'onedl', 'pre-releases'],
)
def test_supported_stacks_pass_silently(install, versions):
    install(**versions)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert stack.check_stack() == ('mmdet', 'mmpretrain')


@pytest.mark.parametrize(
    ('missing', 'expected'),
    [
        (('mmdet',), ('mmpretrain',)),
        (('mmpretrain',), ('mmdet',)),
        (('mmdet', 'mmpretrain'), ()),
    ],
)
def test_hosts_are_optional(install, missing, expected):
    install(**without(*missing))
    assert stack.check_stack() == expected


@pytest.mark.parametrize('name', ['torch', 'mmengine', 'mmcv'])
def test_missing_base_is_named(install, name):
    install(**without(name))
    wanted = stack.SUPPORTED[name][1]
    with pytest.raises(ImportError) as error:
        stack.check_stack()
    assert f'{name} is not installed' in str(error.value)
    assert f'{name}{wanted}' in str(error.value)


@pytest.mark.parametrize(
    ('name', 'version'),
    [
        ('torch', '2.0.1+cu118'),
        ('mmengine', '0.10.3'),
        ('mmengine', '1.0.0'),
        ('mmcv', '2.0.1'),
        ('mmcv', '2.4.0'),
    ],
)
def test_unsupported_base_is_named(install, name, version):
    install(**{**GOOD, name: version})
    with pytest.raises(ImportError) as error:
        stack.check_stack()
    assert f'{name} {version} is installed' in str(error.value)
    assert f'{name}{stack.SUPPORTED[name][1]} is needed' in str(error.value)


@pytest.mark.parametrize(
    ('name', 'version', 'other'),
    [
        ('mmdet', '3.2.0', 'mmpretrain'),
        ('mmdet', '3.6.0', 'mmpretrain'),
        ('mmpretrain', '1.1.1', 'mmdet'),
        ('mmpretrain', '1.4.0', 'mmdet'),
    ],
)
def test_one_unsupported_host(install, name, version, other):
    message = (
        f'{name} {version} is installed, '
        f'{name}{stack.SUPPORTED[name][1]} is needed'
    )
    install(**{**GOOD, name: version})
    with pytest.warns(UserWarning) as caught:
        assert stack.check_stack() == (other,)
    assert len(caught) == 1
    assert message in str(caught[0].message)

    install(**without(other, **{name: version}))
    with pytest.raises(ImportError) as error:
        stack.check_stack()
    assert message in str(error.value)


def test_two_unsupported_hosts_are_both_named(install):
    install(**{**GOOD, 'mmdet': '2.28.2', 'mmpretrain': '1.0.0'})
    with pytest.raises(ImportError) as error:
        stack.check_stack()
    assert 'mmdet 2.28.2 is installed' in str(error.value)
    assert 'mmpretrain 1.0.0 is installed' in str(error.value)


@pytest.mark.parametrize('distribution', ['mmcv', 'mmcv-lite'])
def test_mmcv_without_ops(install, distribution):
    versions = without('mmcv', **{distribution: '2.1.0'})
    install(ops=False, **versions)
    with pytest.warns(UserWarning) as caught:
        assert stack.check_stack() == ('mmpretrain',)
    for part in (f'{distribution} 2.1.0', 'mmcv>=2.1.0,<2.4', 'ops'):
        assert part in str(caught[0].message)

    del versions['mmpretrain']
    install(ops=False, **versions)
    with pytest.raises(ImportError, match=rf'{distribution} 2\.1\.0'):
        stack.check_stack()


def test_mmpretrain_needs_no_ops(install):
    install(ops=False, **without('mmdet', 'mmcv', mmcv_lite='2.1.0'))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert stack.check_stack() == ('mmpretrain',)


def test_this_environment_passes():
    for name in stack.SUPPORTED:
        assert stack.find_problem(name) is None
