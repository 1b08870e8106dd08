"""Run through all that depends on other libraries: `python .ci/smoke.py`, under a minute, loud when something fails.

CI runs it with the newest versions of everything and with the lowest ones that settings.ini allows.
"""
import subprocess
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

import dreambooth_nb
from dreambooth_nb import Subject, generate, load_lora, load_pipeline, train
from dreambooth_nb.export import export

LIBRARIES = ('torch', 'numpy', 'diffusers', 'transformers', 'tokenizers', 'accelerate', 'peft', 'lightning', 'fastcore')


def generate_one(pipeline):
    "Generate one image, as numbers."
    image, = generate(pipeline, 'a photo of sks dog', num_inference_steps=2, progress=False)
    return np.asarray(image, int)


def check_formats(run, folder):
    "Export a run in every format, and open each file again: the same image, but for rounding."
    expected, base = generate_one(run.pipeline), generate_one(load_pipeline(device='cpu'))
    assert abs(expected - base).max() > 10, 'the LoRA has learned nothing'
    for format in ('diffusers', 'single-file', 'lora', 'lora-kohya'):
        path = export(run, format, folder/format, with_images=False)
        opened = load_lora(load_pipeline(device='cpu'), path) if 'lora' in format else load_pipeline(path, device='cpu')
        apart = abs(generate_one(opened) - expected).max()
        print(f'{format}: {apart} grey levels apart')
        assert apart <= 1, f'{format}: the image is another one'


def check_precision():
    "Half precision takes nearly the steps of single precision, which it did not with lightning 2.5.0 to 2.5.3."
    torch.set_num_threads(1)    # as a network on a GPU: in one part
    how = dict(max_train_steps=3, learning_rate=2e-4, with_prior_preservation=False, progress=False)
    losses = {precision: [row['loss'] for row in train(Subject.toyland('teal_dog'), precision=precision, **how).history]
              for precision in ('32-true', 'bf16-mixed')}
    print(losses)
    apart = np.abs(np.subtract(*losses.values())).max()
    assert apart < .01, f'losses in half and in single precision are {apart:.3f} apart'


def check_command(folder):
    "Run the command, with settings from a file, the logger and class images."
    (folder/'run.yaml').write_text('max_train_steps: 2\ntrain_batch_size: 1\nwith_prior_preservation: true\n')
    flags = '--num_class_images 2 --report_to tensorboard --output_dir'.split()
    program = [sys.executable, '-m', 'dreambooth_nb']
    subprocess.run([*program, 'train', '--config', folder/'run.yaml', *flags, folder/'run'], check=True)
    subprocess.run([*program, 'generate', '--model', folder/'run', '--prompt', 'a photo of sks dog',
                    '--num_images', '1', '--num_inference_steps', '2', '--output_dir', folder/'images'], check=True)
    assert list(folder.rglob('events.out.tfevents*')) and (folder/'images'/'image-000.png').exists()


if __name__ == '__main__':
    print(*(f'{name} {version(name)}' for name in LIBRARIES), sep=', ')
    for name in dreambooth_nb.__all__: getattr(dreambooth_nb, name)
    warnings.simplefilter('ignore', ResourceWarning)
    with tempfile.TemporaryDirectory() as tmp:
        folder = Path(tmp)
        run = train(Subject.toyland('teal_dog'), output_dir=folder/'lora', trainable='lora', learning_rate=2e-3,
                    max_train_steps=10, with_prior_preservation=False, progress=False)
        check_formats(run, folder)
        check_precision()
        check_command(folder)
    print('all of it works')
