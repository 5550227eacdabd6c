# MMDetection's runtime, this package, and a check of num_classes.
_base_ = 'mmdet::_base_/default_runtime.py'

custom_imports = dict(imports=['mmba2m'], allow_failed_imports=False)
# data and checkpoints are checked, whichever launcher runs it
runner_type = 'mmba2m.Runner'
custom_hooks = [dict(type='NumClassCheckHook')]
default_hooks = dict(
    # two at least: where the newest cannot be read, the one before is
    checkpoint=dict(
        type='mmba2m.AtomicCheckpointHook',
        max_keep_ckpts=2,
        save_best='auto',
    ),
    # each rank's batch norms see its own images: without this, a validation
    # over several ranks is that of no checkpoint
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
