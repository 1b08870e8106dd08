"""A function of these scripts in a fresh process of its own, alone or beside processes that keep the machine busy.

torch is imported by the processes that measure, never by the one that starts them: a child's peak memory begins at
its parent's.
"""
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

BUSY = 'import os; parent = os.getppid()\nwhile os.getppid() == parent: sum(range(100_000))'


@contextmanager
def busy_neighbours(count:int):
    "Keep so many processes computing; they end with the block, and by themselves if this process is killed."
    neighbours = []
    try:
        for _ in range(count): neighbours.append(subprocess.Popen([sys.executable, '-c', BUSY]))
        yield
    finally:
        for process in neighbours:
            process.kill()
            process.wait()

def child(
    function:str,           # 'module:name' of these scripts; takes the job, returns what JSON can write
    threads:int|None=None,  # of OpenMP; torch's choice if None
    **job,                  # gets 'output', a folder that is emptied afterwards, and 'started', a time
):
    "Call a function in a fresh process, with job['neighbours'] busy processes beside it; RuntimeError if it fails."
    environment = os.environ | dict(TOKENIZERS_PARALLELISM='false')
    if threads: environment |= dict(OMP_NUM_THREADS=str(threads))
    with tempfile.TemporaryDirectory(dir=job.get('folder')) as folder, busy_neighbours(job.get('neighbours', 0)):
        job |= dict(output=f'{folder}/output', started=time.time())
        order = json.dumps(dict(function=function, answer=f'{folder}/answer.json', job=job))
        done = subprocess.run([sys.executable, __file__, order], env=environment, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors='replace')
        if done.returncode:
            raise RuntimeError(f'{done.stdout[-3000:]}\n{function} ({job.get("contestant", "")}) failed '
                               f'with status {done.returncode}')
        return json.loads(Path(folder, 'answer.json').read_text())

def answer(function:str, answer:str, job:dict)->None:
    "Do what `child` asked for. Where a training has several processes, the first one answers."
    module, name = function.split(':')
    result = getattr(importlib.import_module(module), name)(job)
    if os.environ.get('LOCAL_RANK', '0') == '0': Path(answer).write_text(json.dumps(result))


if __name__ == '__main__': answer(**json.loads(sys.argv[1]))
