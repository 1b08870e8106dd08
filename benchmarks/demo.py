"""How long `dreambooth demo` takes, alone and beside processes that keep the machine busy, and what it reports.

    python benchmarks/demo.py
    python benchmarks/demo.py --neighbour 0 1 --rounds 2 --subject sky_teapot

Seconds are of the whole command, from its start to its end: imports, class images, two trainings, pictures, report.
"""
import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from processes import busy_neighbours

def demo(subject:str, neighbours:int)->dict: # seconds, CPU seconds, and the report's values
    "Run the demo once."
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        with busy_neighbours(neighbours):
            subprocess.run([sys.executable, '-m', 'dreambooth_nb', 'demo', f'--output_dir={folder}',
                            f'--subject={subject}'], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            seconds = time.perf_counter() - start
            # the neighbours still run, so only the demo's own time is among the finished children's
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        report = json.loads(Path(folder, 'report.json').read_text(encoding='utf-8'))
    cpu_seconds = sum(getattr(after, name) - getattr(before, name) for name in ('ru_utime', 'ru_stime'))
    scores = {f'{case}_{name}': report[case][name] for case in ('without_prior', 'with_prior')
              for name in ('subject_fidelity', 'pres')}
    return dict(seconds=seconds, cpu_seconds=cpu_seconds, **scores)

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--subject', default='teal_dog', help='a bundled subject')
    parser.add_argument('--neighbour', type=int, nargs='+', default=[0, 1], help='busy processes beside it')
    parser.add_argument('--rounds', type=int, default=2, help='how often, in turn')
    arguments = parser.parse_args()
    found = [(n, demo(arguments.subject, n)) for _ in range(arguments.rounds) for n in arguments.neighbour]
    print('| busy neighbours | seconds | each run | CPU s | likeness with prior | PRES without | PRES with |')
    print('|---:|---:|---|---:|---:|---:|---:|')
    for n in arguments.neighbour:
        own = [run for neighbours, run in found if neighbours == n]
        names = 'cpu_seconds', 'with_prior_subject_fidelity', 'without_prior_pres', 'with_prior_pres'
        cpu, *scores = (statistics.median(run[name] for run in own) for name in names)
        seconds = [run['seconds'] for run in own]
        print(f"| {n} | {statistics.median(seconds):.0f} | {', '.join(f'{s:.0f}' for s in seconds)} | {cpu:.0f} | "
              + ' | '.join(f'{score:.3f}' for score in scores) + ' |')

if __name__ == '__main__': main()
