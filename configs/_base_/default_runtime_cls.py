# MMPretrain's runtime, and this package.
_base_ = 'mmpretrain::_base_/default_runtime.py'

custom_imports = dict(imports=['mmba2m'], allow_failed_imports=False)
# data and checkpoints are checked, whichever launcher runs it
runner_type = 'mmba2m.Runner'
default_hooks = dict(
    # two at least: where the newest cannot be read, the one before is
    checkpoint=dict(
        type='mmba2m.AtomicCheckpointHook',
        max_keep_ckpts=2,
        save_best='auto',
    ),
    # validation and checkpoint have the statistics of all ranks
    sync_buffers=dict(type='SyncBuffersHook'),
    terminate_on_nan=dict(type='mmba2m.TerminateOnNaNHook'),
    # a schedule without effect, modules that are off, nothing found
    training_checks=dict(type='mmba2m.TrainingChecksHook'),
    # a run that is killed and resumed ends as an uninterrupted one
    random_state=dict(type='mmba2m.RandomStateHook'),
    resume_val=dict(type='mmba2m.ResumeValHook'),
    # SARs and weights of BA2M; where there is none, it does nothing
    ba2m_logger=dict(type='mmba2m.BA2MLoggerHook'),
)
# tensorboard --logdir work_dirs
vis_backends = [
    dict(type='LocalVisBackend'),
    dict(type='TensorboardVisBackend'),
]
visualizer = dict(vis_backends=vis_backends)
