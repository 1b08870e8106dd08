"""Run notebooks as if there were a GPU: `python tools/other_device.py nbs/03_diffusion.ipynb ...`.

`load_pipeline` puts a model on the best device there is, while tensors that a cell makes by itself are on the CPU. On
a machine without a GPU nobody sees where the two meet. Here the best device is 'other': its tensors lie in the CPU's
memory, but, as on a GPU, no operation mixes them with the CPU's, and none becomes a NumPy array. A notebook goes on
after an error; each is printed with its cell and line. The exit status is 1 if there was any.

What this does not find: Lightning does not know the device and trains on the CPU, and numbers are the CPU's, without
a GPU's rounding. So a run on a GPU remains the proof, and an error about storages or a missing operator may be the
device's own.

The first run compiles `other_device.cpp` (a minute; the result is kept in torch's cache folder), for which it needs a
C++ compiler and ninja.
"""
import os
import subprocess
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace

import torch

HERE = Path(__file__).resolve().parent
NAME = 'other'


def register_device():
    "Compile the device and make it known to torch."
    from torch.utils.cpp_extension import load
    device = load('other_device', [str(HERE/'other_device.cpp')], extra_cflags=['-O1'])
    torch.utils.rename_privateuse1_backend(NAME)
    device.register_hooks()
    torch._register_device_module(NAME, SimpleNamespace(
        is_available=lambda: True, device_count=lambda: 1, current_device=lambda: 0, set_device=lambda device: None,
        _is_in_bad_fork=lambda: False, manual_seed_all=lambda seed: None, synchronize=lambda *device: None,
        get_rng_state=lambda *device: torch.get_rng_state(), set_rng_state=lambda state, *device: None,
        get_amp_supported_dtype=lambda: [torch.float16, torch.bfloat16], empty_cache=lambda: None,
        memory_allocated=lambda *device: 0))
    torch.utils.generate_methods_for_privateuse1_backend()
    copy = torch.Tensor.__deepcopy__
    def deepcopy(tensor, memo):     # torch's would make the storage on the CPU
        if tensor.device.type != NAME or not tensor.is_leaf: return copy(tensor, memo)
        if id(tensor) not in memo: memo[id(tensor)] = tensor.detach().clone().requires_grad_(tensor.requires_grad)
        return memo[id(tensor)]
    torch.Tensor.__deepcopy__ = deepcopy


def describe(error, notebook, number):
    "Say what went wrong and where: in which line of the cell, and deeper in the notebook or in the package."
    def name_of(frame):
        path = Path(frame.filename)
        if 'ipython-input' in path.name: return 'notebook'
        return path.name if HERE.parent/'dreambooth_nb' in path.parents else ''
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if name_of(frame)]
    line = f', line {own[0].lineno}' if own else ''
    message = (str(error).strip().splitlines() or [''])[0][:200]
    at = [f'    {name_of(frame)}: {frame.line}' for frame in own[:1] + own[-2:]]
    return '\n'.join([f'{notebook.name}, cell {number}{line}: {type(error).__name__}: {message}', *dict.fromkeys(at)])


def run(notebook):
    "Run the cells that nbdev-test would run; return the number of errors."
    from execnb.shell import CaptureShell
    from nbdev.config import get_config
    from nbdev.test import nb_test_cells
    register_device()
    from dreambooth_nb import core
    core.default_device = lambda: torch.device(NAME)
    os.environ['IN_TEST'] = '1'
    cells, shell, errors = nb_test_cells(notebook, get_config(notebook.parent).tst_flags), CaptureShell(notebook), 0
    os.chdir(notebook.parent)
    for cell in cells:
        if cell.cell_type != 'code': continue
        shell.run(cell.source)
        if shell.exc is None: continue
        print(describe(shell.exc, notebook, cell.idx_), flush=True)
        errors += 1
    return errors


def main(paths):
    "Run each notebook in a process of its own; return how many had errors."
    if len(paths) == 1:
        errors = run(Path(paths[0]).resolve())
        print(f'{Path(paths[0]).name}: {errors or "no"} errors', flush=True)
        os._exit(errors > 0)    # threads of a notebook's shell are not waited for
    return sum(subprocess.run([sys.executable, __file__, path]).returncode != 0 for path in paths)


if __name__ == '__main__':
    if not sys.argv[1:]: sys.exit(__doc__)
    sys.path.insert(0, str(HERE.parent))
    sys.exit(min(main(sys.argv[1:]), 1))
