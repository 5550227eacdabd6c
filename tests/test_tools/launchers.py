"""Calls the launch scripts as a user does."""

import subprocess

from tool_runs import ROOT

DETECTOR = ROOT / 'configs/demo/faster-rcnn_ba2m-r18_fpn_shapes.py'


def start(env, script, *args, cwd=ROOT):
    return subprocess.Popen(
        ['bash', ROOT / 'tools' / script, *map(str, args)],
        cwd=cwd,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def run(*args, code=0, **kwargs):
    process = start(*args, **kwargs)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == code, output[-3000:]
    return output
