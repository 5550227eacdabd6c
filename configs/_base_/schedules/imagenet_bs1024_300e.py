# As BA-Net's authors train (their main.py), which is how Swin is trained, and
# gradients clipped at 5: AdamW with 1e-3 and weight decay 0.05, but for norms
# and biases, 20 epochs of warm-up from 1e-6, cosine to 1e-5. Their cosine
# counts from the first epoch, this one from the end of the warm-up.
_base_ = 'mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py'

optim_wrapper = dict(clip_grad=dict(max_norm=5.0))
